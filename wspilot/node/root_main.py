"""What /usr/local/libexec/wspilot-root runs: the frame, with all verbs."""

from __future__ import annotations

from wspilot.node import root_bench, root_helper, root_taps, root_xen

XEN = {**root_xen.VERBS, **root_bench.VERBS}
root_helper.VERBS.update({**root_taps.VERBS, **XEN})
root_helper.PATIENCE.update(dict.fromkeys(XEN, root_xen.patience_s))
root_helper.BEGINNERS.update({"balloon-take", "xen-create", "bench-memory"})


def main() -> int:
    """See `root_helper.main`."""
    return root_helper.main()
