"""The `Logging` component with all that it can have, as a Pulumi program. `test_logging_resources.py` runs it."""

import pulumi
import pulumi_aws as aws

from llm_serving.logging import Logging

provider = aws.Provider(
    "main",
    region="us-east-1",
    s3_use_path_style=True,
    allowed_account_ids=["000000000000"],
    skip_metadata_api_check=True,
)
topic = aws.sns.Topic("alarms", opts=pulumi.ResourceOptions(provider=provider))
Logging(
    "logging",
    {
        "cluster_name": "logged",
        "api_access_log_group": "api-access",
        "log_retention_days": 30,
        "container_insights": True,
        "alarm_topic_arns": [topic.arn],
        "open_search": {
            "domain_arn": "arn:aws:es:us-east-1:000000000000:domain/logs",
            "subnet_ids": ["subnet-1"],
            "security_group_ids": ["sg-1"],
        },
        "require_tls": False,
        "protect": False,
    },
    pulumi.ResourceOptions(providers=[provider]),
)
