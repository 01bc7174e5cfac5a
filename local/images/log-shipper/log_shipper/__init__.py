"""Stands in for the Fluent Bit of the EKS add-on amazon-cloudwatch-observability: what containers write, to CloudWatch.

Its log group, stream names and events are those of the add-on's configuration, `application-log.conf`, so that what
counts and asks the logs finds here what it finds on AWS. It asks no kubelet, hence knows no container image, and it
reads files from their beginning. Python's own modules alone: with botocore each node would give 46 MB to it.
"""
