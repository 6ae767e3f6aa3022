"""What runs on a compute node: standard library and the bundled qemu.qmp, Python 3.9 on."""
