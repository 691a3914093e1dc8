"""The host side: plan, measure, launch and supervise VMs. Program `cvm`."""
