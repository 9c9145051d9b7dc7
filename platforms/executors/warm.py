"""What every job imports. The pool's fork server imports it once, so that its children need not.

Only imports: nothing here may start a thread or touch a device, since children are forked from the process.
"""

import torchvision  # noqa: F401
