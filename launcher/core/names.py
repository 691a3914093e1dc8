"""Names of the files in a VM's state folder. QEMU runs inside it, so its command line uses them as they are: no path
length limit of unix sockets applies, and the command line does not depend on where the state is kept.
"""

from __future__ import annotations

QMP_SOCKET = "qmp.sock"
STATUS_SOCKET = "status.sock"
STORAGE_FOLDER = "storage"
STORAGE_SOCKET = "storage/nbd.sock"
"""Where the storage daemon exports network disks; it runs in the folder."""
STORAGE_LOG = "storage.log"
CONSOLE_SOCKET = "console.sock"
CHIP_SOCKET = "emulator.sock"
SERIAL_LOG = "serial.log"
STATUS_LOG = "status.jsonl"
QEMU_LOG = "qemu.log"
EMULATOR_LOG = "emulator.log"
LAUNCHER_LOG = "launcher.log"
TPM_SOCKET = "tpm.sock"
VTPM_FOLDER = "vtpm"
VTPM_STATE = "state"
VTPM_SOCKET = "vtpm/tpm.sock"
"""An ordinary VM's TPM: it runs in the folder, and what it remembers is below it, from launch to launch."""
EXEC_SOCKET = "exec.sock"
HASH_TABLE = "hashes.bin"
INIT_DATA = "init-data.toml"
INIT_DATA_ITEM = "opt/org.cvm/init-data"
"""Where the guest finds it among QEMU's firmware configuration items."""
VM_FILE = "vm.json"
STATE_FILE = "state.json"
LAUNCHER_PID = "launcher.pid"
CONTROL_SOCKET = "control.sock"
CONFINEMENT_FILE = "isolation.json"
LEDGER = "ledger.jsonl"
EVENTS = "events.jsonl"
PREVIOUS = ".previous"
"""Suffix of the console log of the launch before this one."""
TIMES = ".times"
"""Suffix of the file beside a console log that says when it had grown how far."""
RESULT_FILE = "result.json"
MOVED_FILE = "moved.json"
"""The VM left for another host, or is leaving."""
LAYERS = ".layers.json"
"""Behind a disk's name: the record of snapshots' layers over it."""
CHIP_STATE = ".emulated-chip"
"""Below the state root: one emulated chip per host, unless a VM names its own folder."""

OF_A_RUN = (
    QMP_SOCKET,
    STATUS_SOCKET,
    CONSOLE_SOCKET,
    CHIP_SOCKET,
    CONTROL_SOCKET,
    TPM_SOCKET,
    EXEC_SOCKET,
    LAUNCHER_PID,
)
"""What means something only while the launcher lives: removed by it, or by who finds it dead."""

STATUS_PORT = "org.cvm.status"
CHIP_PORT, TD_PORT = "org.cvm.snp", "org.cvm.tdx"
