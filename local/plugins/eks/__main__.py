"""Started by the Pulumi engine: `python -m local.plugins.eks ENGINE_ADDRESS`."""

from local.plugins.eks.provider import main

main()
