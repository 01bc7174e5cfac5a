"""The two providers of the program. Both are explicit: nothing can reach another account or cluster by default."""

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from infra.settings import Settings


def aws_provider(settings: Settings) -> aws.Provider:
    """Return the provider of the stack's region that refuses any account but the stack's and tags all it makes."""
    return aws.Provider(
        "aws",
        region=settings.aws.region,
        allowed_account_ids=[settings.aws.account_id],
        s3_use_path_style=settings.aws.s3_path_style,
        default_tags={
            "tags": {
                **settings.tags,
                "pulumi:project": pulumi.get_project(),
                "pulumi:stack": pulumi.get_stack(),
            }
        },
    )


def kubernetes_provider(
    kubeconfig: pulumi.Output[str], cluster_name: str, *, parent: pulumi.Resource
) -> kubernetes.Provider:
    """Return the provider of one cluster. Its identifier keeps new credentials from replacing every object."""
    return kubernetes.Provider(
        "kubernetes",
        kubeconfig=kubeconfig,
        cluster_identifier=cluster_name,
        enable_server_side_apply=True,
        # Pods see a mounted secret or file change. Replacing one of a fixed name would first take it away from them.
        enable_secret_mutable=True,
        enable_config_map_mutable=True,
        opts=pulumi.ResourceOptions(depends_on=[parent]),
    )
