"""The model bucket as a registry: revisions that never change, and aliases that say which one is in use.

`models/<name>/<revision>/` holds a model's files and a manifest, which is written last: a revision is there whole, or
it isn't there. `models/<name>/aliases/<alias>.json` names a revision. Uses boto3 only; no Pulumi.
"""
