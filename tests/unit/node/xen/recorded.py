"""What xl 4.17 printed on a real host: excerpts, as our own fixtures."""

# ruff: noqa: E501

LIST = """\
Name                                        ID   Mem VCPUs\tState\tTime(s)   UUID                            Reason-Code\tSecurity Label
Domain-0                                     0   600     2     r-----      44.7 00000000-0000-0000-0000-000000000000        -                -
ws-1500-g1                                   1    96     1     -b----       0.5 872c2a34-78d9-4280-b41a-2d6870e42565        -                -
(null)                                      14     0     0     --p---       0.0 11111111-2222-3333-4444-555555555555        -                -
an old guest                                15   128     1     ---s--      45.9 11111111-2222-3333-4444-666666666666        0                -
"""
INFO = """\
host                   : xenlab
virt_caps              : pv hvm gnttab-v1 gnttab-v2
total_memory           : 2047
free_memory            : 1000
xen_version            : 4.17.7
xen_commandline        : console=com1 com1=115200,8n1 smt=1 dom0_mem=1024M,max:1024M
"""
LOG = """\
Waiting for domain g1 (domid 1) to die [pid 590]
Domain 1 has shut down, reason code 0 0x0
Action for shutdown reason code 0 is destroy
Domain 1 needs to be cleaned up: destroying the domain
Done. Exiting now
Waiting for domain g1 (domid 3) to die [pid 690]
Domain 3 has shut down, reason code 1 0x1
"""
_TAIL = """\
libxl: error: libxl_create.c:1640:domcreate_rebuild_done: Domain 3:cannot (re-)build domain: -3
libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain 3:Non-existant domain
libxl: error: libxl_domain.c:1137:domain_destroy_callback: Domain 3:Unable to destroy guest
libxl: error: libxl_domain.c:1064:domain_destroy_cb: Domain 3:Destruction of domain failed
"""
NO_MEMORY = (
    """\
Parsing config from /tmp/g/big.cfg
xc: error: panic: xg_dom_boot.c:119: xc_dom_boot_mem_init: can't allocate low memory for domain: Out of memory
libxl: error: libxl_dom.c:586:libxl__build_dom: xc_dom_boot_mem_init failed: Cannot allocate memory
"""
    + _TAIL
)
TOO_SMALL = (
    """\
xc: error: panic: xg_dom_core.c:536: xc_dom_chk_alloc_pages: segment kernel too large (0x3a00 > 0x2000 - 0x1000 pages): Out of memory
libxl: error: libxl_dom.c:594:libxl__build_dom: xc_dom_build_image failed: No such file or directory
"""
    + _TAIL
)
NO_KERNEL = (
    """\
xc: error: panic: xg_dom_core.c:205: failed to open file '/boot/nosuch': No such file or directory: Internal error
libxl: error: libxl_dom.c:646:libxl__build_pv: xc_dom_kernel_file failed: No such file or directory
"""
    + _TAIL
)
NO_BRIDGE = (
    """\
libxl: error: libxl_exec.c:117:libxl_report_child_exitstatus: /etc/xen/scripts/vif-bridge online [833] exited with error status 1
libxl: error: libxl_device.c:1337:device_hotplug_child_death_cb: script: Could not find bridge device nobr9
"""
    + _TAIL
)
NO_SCRIPT = (
    """\
libxl: cannot execute /etc/xen/scripts/vif-nosuch: No such file or directory
libxl: error: libxl_create.c:1921:domcreate_attach_devices: Domain 7:unable to add vif devices
"""
    + _TAIL
)
DUPLICATE = (
    """\
Parsing config from /tmp/g/g1.cfg
libxl: error: libxl_domain.c:81:libxl__domain_rename: Domain 2:Domain with name "g1" already exists.
libxl: error: libxl_create.c:1296:initiate_domain_create: Domain 2:cannot make domain: -6
"""
    + _TAIL
)
TOO_LOW = """\
libxl: error: libxl_mem.c:287:libxl_set_memory_target: New target 65536 for dom0 is below the minimum threshold
cannot set domid 0 dynamic max memory to : 64
"""
TOO_HIGH = """\
libxl: error: libxl_mem.c:278:libxl_set_memory_target: memory_dynamic_max must be less than or equal to memory_static_max

cannot set domid 0 dynamic max memory to : 1025
"""
SYNTAX = """\
/tmp/g/bad.cfg:7: config parsing error near <newline>: syntax error, unexpected NEWLINE
Failed to parse config: Invalid argument
"""
NO_DOMAIN = "nosuch is an invalid domain identifier (rc=-6)\n"

NO_PVH = """\
libxl: error: libxl_create.c:46:libxl__domain_create_info_setdefault: neither hap nor shadow \
paging available
"""
