"""The ECR repositories of an account: `ImageRepositories` alone, once for all environments that pull from it."""

import pulumi

from llm_serving import ImageRepositories

config = pulumi.Config()
repositories = ImageRepositories(
    "images",
    {"pull_account_ids": config.require_object("pullAccountIds"), "protect": config.require_bool("protect")},
)
pulumi.export("urls", repositories.urls)
