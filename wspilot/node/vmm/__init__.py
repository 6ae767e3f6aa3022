"""Whatever runs VMs on a node: one module a VMM, entered through `open_vmm`."""
