"""The `aws` package of the pulumi-aws SDK, served with HashiCorp's Terraform provider.

Pulumi's official AWS plugin can't be had from a package registry. Its parts can: the Terraform provider's binary, and
Pulumi's dynamic bridge, which serves any Terraform provider under names of its own. This plugin stands between the
engine and the bridge and translates: type tokens, property names and shapes, in both directions and at every depth.

The rules compare what the bridge says of the Terraform provider (`terraform`) with the installed SDK's own source
(`sdk`); `tokens` and `pairing` match them, `conversion` and `states` translate values, `paths` property paths.
"""
