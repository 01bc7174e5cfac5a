"""Started by the Pulumi engine: `python -m local.plugins.eks ENGINE_ADDRESS`."""

import gc

gc.disable()  # before the SDKs are imported: nothing that a component makes can go before the plugin ends

from local.plugins.eks.provider import main  # noqa: E402

main()
