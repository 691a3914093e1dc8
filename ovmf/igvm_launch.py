"""The SEV-SNP launch digest of an IGVM file, by the rules of COCONUT's ``igvmmeasure``.

Directives in file order, those for the SEV-SNP platform only: data pages are NORMAL (a page without data is one of
zeros), flagged ones UNMEASURED, secrets SECRETS, both CPUID kinds CPUID; 2 MiB pages count as 512 of 4 KiB; parameter
areas are UNMEASURED, page by page over their whole size; a vCPU's context is a VMSA page at its own address.
"""

from __future__ import annotations

from hashlib import sha384

from ovmf import launch_context as ctx
from ovmf.errors import IdBlockInvalid, IgvmMalformed
from ovmf.igvm import NORMAL, PAGE, SECRETS, Context, IgvmFile, Page, Parameters
from policy.fixed import LaunchDigest

_KVM_VMSA_GPA = 0xFFFFFFFFF000
_ZEROS = sha384(bytes(PAGE)).digest()


def igvm_launch_digest(file: IgvmFile, *, native_zero: bool = False) -> LaunchDigest:
    """The launch digest, 48 bytes. ``native_zero``: the loader uses ZERO pages for pages without data."""
    state = ctx.START
    for directive in file.directives:
        if isinstance(directive, Page):
            state = _page(state, directive, native_zero=native_zero)
        elif isinstance(directive, Parameters):
            state = ctx.extend_range(state, ctx.UNMEASURED, directive.gpa, directive.size)
        else:
            state = ctx.extend(state, ctx.VMSA, directive.gpa, sha384(directive.vmsa).digest())
    return LaunchDigest(state)


def _page(state: bytes, page: Page, *, native_zero: bool) -> bytes:
    if page.kind == SECRETS:
        return ctx.extend_range(state, ctx.SECRETS, page.gpa, page.size)
    if page.kind != NORMAL:
        return ctx.extend_range(state, ctx.CPUID, page.gpa, page.size)
    if page.unmeasured:
        return ctx.extend_range(state, ctx.UNMEASURED, page.gpa, page.size)
    if page.data:
        return ctx.extend_normal(state, page.gpa, page.data)
    if native_zero:
        return ctx.extend_range(state, ctx.ZERO, page.gpa, page.size)
    for gpa in range(page.gpa, page.gpa + page.size, PAGE):
        state = ctx.extend(state, ctx.NORMAL, gpa, _ZEROS)
    return state


def check_id_block(file: IgvmFile, launch_digest: LaunchDigest) -> None:
    """With an ID block in the file: its digest must be the file's and its signatures valid, as the chip will check.

    Raises :class:`IdBlockInvalid` (or :class:`IdBlockMalformed`), :class:`IgvmMalformed` without a policy to sign.
    """
    block = file.id_block
    if block is None:
        return
    if block.launch_digest != launch_digest:
        raise IdBlockInvalid(
            f"igvm: ID block states {block.launch_digest.hex()}, the file measures {launch_digest.hex()}"
        )
    if file.policy is None:
        raise IgvmMalformed("igvm: has an ID block but no guest policy")
    from ovmf.id_block import IdAuth, IdBlock, verify_id_block

    signed = IdBlock(block.launch_digest, block.family_id, block.image_id, block.guest_svn, file.policy)
    auth = IdAuth(block.id_signature, block.id_key, block.author_signature, block.author_key)
    verify_id_block(signed.to_bytes(), auth.to_bytes())


def kvm_problems(file: IgvmFile) -> tuple[str, ...]:
    """Why QEMU with KVM would not reproduce the digest; empty when nothing is known to stand against it.

    KVM measures one VMSA, last of all, at an address of its own, and sets two bits of CR0.
    """
    contexts = [(index, item) for index, item in enumerate(file.directives) if isinstance(item, Context)]
    problems = []
    if len(contexts) != 1:
        problems.append(f"the file has {len(contexts)} vCPU contexts, KVM takes 1")
    for index, context in contexts:
        if context.gpa != _KVM_VMSA_GPA:
            problems.append(f"VMSA of vCPU {context.vcpu} at 0x{context.gpa:X}, KVM puts it at 0x{_KVM_VMSA_GPA:X}")
        cr0 = int.from_bytes(context.vmsa[0x158:0x160], "little")
        if cr0 not in (0x30, 0x31):
            problems.append(f"VMSA of vCPU {context.vcpu} has CR0 0x{cr0:X}, KVM makes it 0x30 or 0x31")
        if any(not isinstance(item, Context) for item in file.directives[index + 1 :]):
            problems.append(f"VMSA of vCPU {context.vcpu} is not the last page, KVM measures it last")
    return tuple(problems)
