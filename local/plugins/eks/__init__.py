"""The part of Pulumi's `eks` provider that this project uses, for a machine without the official plugin.

The official plugin is a component provider too: it makes `aws:*` and `kubernetes:*` resources, which other providers
create. This one takes the same inputs, makes the same children under the same names, and gives the same outputs, so
that a stack that was brought up with either can be updated with the other. The one difference is the kubeconfig,
see `kubeconfig.py`.
"""
