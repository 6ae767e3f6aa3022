"""What /usr/local/libexec/wspilot-root runs: the frame, with all verbs."""

from __future__ import annotations

from wspilot.node import root_helper, root_taps, root_xen

root_helper.VERBS.update({**root_taps.VERBS, **root_xen.VERBS})
root_helper.PATIENCE.update(dict.fromkeys(root_xen.VERBS, root_xen.patience_s))
root_helper.BEGINNERS.update({"balloon-take", "xen-create"})


def main() -> int:
    """See `root_helper.main`."""
    return root_helper.main()
