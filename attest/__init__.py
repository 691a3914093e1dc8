"""Evidence, verification, key release, audit; and the agent inside the guest. Program `attest`."""
