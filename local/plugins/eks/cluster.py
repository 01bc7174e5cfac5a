"""`eks:index:Cluster`: an EKS cluster in API authentication mode, its role, security groups, add-ons and access."""

import json
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes
from pulumi import ComponentResource, InvokeOptions, Output, ResourceOptions

from local.plugins.eks import kubeconfig, properties
from local.plugins.eks.inputs import Inputs, check_cluster
from local.plugins.eks.security_groups import SecurityGroups, cluster_security_group, security_groups


class ServiceRole(ComponentResource):
    """An IAM role that an AWS service assumes, with policies that AWS manages."""

    def __init__(self, name: str, service: str, policies: list[str], inputs: Inputs, opts: ResourceOptions) -> None:
        super().__init__("eks:index:ServiceRole", name, {}, opts)
        child = ResourceOptions(parent=self)
        self.role = aws.iam.Role(
            f"{name}-role",
            description="Allows EKS to manage clusters on your behalf.",
            assume_role_policy=properties.assume_role_policy(service, properties.CLUSTER_ROLE_ACTIONS),
            tags=inputs.get("tags"),
            opts=child,
        )
        partition = aws.get_partition_output(opts=InvokeOptions(parent=self)).partition
        self.attachments = [
            aws.iam.RolePolicyAttachment(
                properties.attachment_name(name, policy),
                policy_arn=Output.concat("arn:", partition, ":iam::aws:policy/", policy),
                role=self.role.name,
                opts=child,
            )
            for policy in policies
        ]
        self.register_outputs({"directRole": self.role, "resolvedRole": self.role})


class VpcCniAddon(ComponentResource):
    """The Amazon VPC CNI as an EKS add-on."""

    def __init__(self, name: str, cluster: aws.eks.Cluster, inputs: Inputs, opts: ResourceOptions) -> None:
        super().__init__("eks:index:VpcCniAddon", name, {}, opts)
        options: Mapping[str, Any] = inputs.get("vpcCniOptions") or {}
        configuration = Output.from_input(options).apply(properties.vpc_cni_configuration)
        self.addon = aws.eks.Addon(
            name,
            cluster_name=cluster.name,
            addon_name="vpc-cni",
            addon_version=options.get("addonVersion") or _newest_version("vpc-cni", cluster, self),
            resolve_conflicts_on_create=options.get("resolveConflictsOnCreate") or "OVERWRITE",
            resolve_conflicts_on_update=options.get("resolveConflictsOnUpdate") or "OVERWRITE",
            preserve=True,
            configuration_values=configuration.apply(properties.addon_configuration),
            service_account_role_arn=options.get("serviceAccountRoleArn"),
            tags=inputs.get("tags"),
            opts=ResourceOptions(parent=self),
        )
        self.register_outputs({"addon": self.addon})


class Cluster(ComponentResource):
    """Makes what the official plugin makes for these inputs. `state` holds the outputs by their schema names."""

    def __init__(self, name: str, inputs: Inputs, opts: ResourceOptions) -> None:
        check_cluster(inputs)
        local_config = kubeconfig.local_kubeconfig()
        super().__init__("eks:index:Cluster", name, dict(inputs), opts)
        self._name = name
        self._inputs = inputs
        self._child = ResourceOptions(parent=self)
        cluster_group = cluster_security_group(name, inputs, self)
        given_role = inputs.get("serviceRole")
        service_role = None if given_role is not None else self._service_role()
        self._cluster = self._eks_cluster(cluster_group, service_role)
        kube_proxy: Mapping[str, Any] = inputs.get("kubeProxyAddonOptions") or {}
        if kube_proxy.get("enabled") is not False:
            self._addon("kube-proxy", kube_proxy)
        config = self._kubeconfig(local_config)
        provider = kubernetes.Provider(
            f"{name}-eks-k8s",
            kubeconfig=config.apply(json.dumps),
            enable_config_map_mutable=inputs.get("enableConfigMapMutable"),
            opts=self._child,
        )
        entries = self._access_entries()
        if not inputs.get("useDefaultVpcCni"):
            VpcCniAddon(f"{name}-vpc-cni", self._cluster, inputs, ResourceOptions(parent=self, depends_on=entries))
        coredns: Mapping[str, Any] = inputs.get("corednsAddonOptions") or {}
        # Without a default node group the official plugin adds CoreDNS only when it is asked to.
        if coredns.get("enabled") is True or coredns.get("configurationValues"):
            self._addon("coredns", coredns)
        groups = security_groups(name, inputs, self, self._cluster, cluster_group)
        role = given_role if service_role is None else service_role.role
        self.state = self._state(groups, role, provider, config, local=local_config is not None)
        self.register_outputs(self.state)

    def _service_role(self) -> ServiceRole:
        policies = [properties.CLUSTER_ROLE_POLICY]
        return ServiceRole(f"{self._name}-eksRole", "eks.amazonaws.com", policies, self._inputs, self._child)

    def _eks_cluster(
        self, group: Output[aws.ec2.SecurityGroup] | None, service_role: ServiceRole | None
    ) -> aws.eks.Cluster:
        inputs = self._inputs
        key = inputs.get("encryptionConfigKeyArn")
        network = None
        if inputs.get("kubernetesServiceIpAddressRange") or inputs.get("ipFamily"):
            given = Output.all(inputs.get("kubernetesServiceIpAddressRange"), inputs.get("ipFamily"))
            network = given.apply(lambda values: properties.network_config(*values))
        if service_role is None:
            role_arn = Output.from_input(inputs["serviceRole"]).apply(lambda role: role.arn)
        else:
            role_arn = service_role.role.arn
        self_managed = inputs.get("bootstrapSelfManagedAddons")
        vpc_config = {
            "securityGroupIds": None if group is None else [group.apply(lambda each: each.id)],
            "subnetIds": self._subnet_ids(),
            "endpointPrivateAccess": inputs.get("endpointPrivateAccess"),
            "endpointPublicAccess": inputs.get("endpointPublicAccess"),
            "publicAccessCidrs": inputs.get("publicAccessCidrs"),
        }
        arguments: dict[str, Any] = {
            "name": inputs.get("name"),
            "role_arn": role_arn,
            "version": inputs.get("version"),
            "vpc_config": properties.given(vpc_config),
            "kubernetes_network_config": network,
            "bootstrap_self_managed_addons": True if self_managed is None else self_managed,
            "enabled_cluster_log_types": inputs.get("enabledClusterLogTypes"),
            "encryption_config": None if key is None else {"provider": {"keyArn": key}, "resources": ["secrets"]},
            "access_config": {
                "authenticationMode": inputs["authenticationMode"],
                "bootstrapClusterCreatorAdminPermissions": True,
            },
            "upgrade_policy": inputs.get("upgradePolicy"),
            "deletion_protection": inputs.get("deletionProtection"),
            "tags": self._tags(f"{self._name}-eksCluster", "clusterTags", "tags"),
        }
        options = ResourceOptions(
            parent=self,
            depends_on=[] if service_role is None else [service_role.role, *service_role.attachments],
            # Both matter only when the cluster is made; changing them later would replace it.
            ignore_changes=["accessConfig.bootstrapClusterCreatorAdminPermissions", "bootstrapSelfManagedAddons"],
        )
        return aws.eks.Cluster(f"{self._name}-eksCluster", opts=options, **arguments)

    def _subnet_ids(self) -> Any:
        if self._inputs.get("subnetIds") is not None:
            return self._inputs["subnetIds"]
        both = Output.all(self._inputs.get("publicSubnetIds") or [], self._inputs.get("privateSubnetIds") or [])
        return both.apply(lambda each: [*each[0], *each[1]])

    def _addon(self, addon: str, options: Mapping[str, Any]) -> None:
        values = Output.from_input(options.get("configurationValues"))
        aws.eks.Addon(
            f"{self._name}-{addon}",
            cluster_name=self._cluster.name,
            addon_name=addon,
            addon_version=options.get("version") or _newest_version(addon, self._cluster, self),
            resolve_conflicts_on_create=options.get("resolveConflictsOnCreate") or "OVERWRITE",
            resolve_conflicts_on_update=options.get("resolveConflictsOnUpdate") or "OVERWRITE",
            preserve=True,
            configuration_values=values.apply(properties.addon_configuration),
            tags=self._inputs.get("tags"),
            opts=self._child,
        )

    def _access_entries(self) -> list[pulumi.Resource]:
        entries: list[pulumi.Resource] = []
        given: Mapping[str, Any] = self._inputs.get("accessEntries") or {}
        for name, entry in given.items():
            resource = aws.eks.AccessEntry(
                f"{self._name}-{name}",
                cluster_name=self._cluster.name,
                principal_arn=entry["principalArn"],
                kubernetes_groups=entry.get("kubernetesGroups"),
                type=entry.get("type"),
                user_name=entry.get("username"),
                tags=entry.get("tags"),
                opts=ResourceOptions(parent=self, depends_on=[self._cluster]),
            )
            policies: Mapping[str, Any] = entry.get("accessPolicies") or {}
            for association_name, association in policies.items():
                policy = Output.from_input(association)
                aws.eks.AccessPolicyAssociation(
                    f"{self._name}-{name}-{association_name}",
                    cluster_name=self._cluster.name,
                    principal_arn=entry["principalArn"],
                    policy_arn=policy["policyArn"],
                    access_scope=policy["accessScope"],
                    opts=ResourceOptions(parent=resource, depends_on=[resource]),
                )
            entries.append(resource)
        return entries

    def _kubeconfig(self, local_config: dict[str, Any] | None) -> Output[dict[str, Any]]:
        """The given kubeconfig, or the one of any EKS cluster; known once the cluster is made."""
        cluster = self._cluster
        if local_config is not None:
            # It holds a client key, which an EKS cluster's doesn't.
            return Output.secret(cluster.endpoint.apply(lambda _: local_config))
        parts = Output.all(
            name=cluster.name,
            arn=cluster.arn,
            endpoint=cluster.endpoint,
            certificate=cluster.certificate_authority.apply(lambda authority: authority.data or ""),
            credentials=self._inputs.get("providerCredentialOpts"),
        )
        return parts.apply(lambda known: kubeconfig.eks_kubeconfig(**known))

    def _tags(self, name: str, *given: str) -> Output[dict[str, str]]:
        return Output.all(*(self._inputs.get(each) for each in given)).apply(lambda all_: properties.tags(name, *all_))

    def _state(
        self, groups: SecurityGroups, role: Any, provider: kubernetes.Provider, config: Output[dict[str, Any]], *,
        local: bool,
    ) -> dict[str, Any]:  # fmt: skip
        cluster = self._cluster
        own_group = cluster.vpc_config.apply(lambda vpc: vpc.cluster_security_group_id or "")
        core: dict[str, Any] = {
            "cluster": cluster,
            "vpcId": self._inputs["vpcId"],
            "subnetIds": self._subnet_ids(),
            "publicSubnetIds": self._inputs.get("publicSubnetIds"),
            "privateSubnetIds": self._inputs.get("privateSubnetIds"),
            "endpoint": cluster.endpoint,
            "clusterSecurityGroup": groups.cluster,
            "provider": provider,
            "instanceRoles": [],
            "nodeGroupOptions": {"version": self._inputs.get("version")},
            # A secret inside would make all of `core` secret, with every value that is derived from it.
            "kubeconfig": None if local else config,
            "tags": self._inputs.get("tags"),
            "nodeSecurityGroupTags": self._inputs.get("nodeSecurityGroupTags"),
            "storageClasses": {},
            "clusterIamRole": role,
        }
        issuer = cluster.identities.apply(_issuer)
        return {
            "kubeconfig": config,
            "kubeconfigJson": config.apply(lambda known: json.dumps(known, separators=(",", ":"))),
            "eksCluster": cluster,
            "core": properties.given(core),
            "clusterSecurityGroup": groups.cluster,
            "nodeSecurityGroup": groups.nodes,
            "eksClusterIngressRule": groups.cluster_ingress,
            "instanceRoles": [],
            "defaultNodeGroup": None,
            "clusterSecurityGroupId": own_group if groups.cluster is None else groups.cluster.apply(lambda g: g.id),
            "nodeSecurityGroupId": own_group if groups.nodes is None else groups.nodes.id,
            "clusterIngressRuleId": groups.cluster_ingress.security_group_rule_id if groups.cluster_ingress else "",
            "defaultNodeGroupAsgName": "",
            "fargateProfileId": "",
            "fargateProfileStatus": "",
            "oidcProviderArn": "",
            "oidcProviderUrl": issuer,
            "oidcIssuer": issuer.apply(lambda url: url.removeprefix("https://")),
            "autoModeNodeRoleName": "",
        }


def _newest_version(addon: str, cluster: aws.eks.Cluster, parent: pulumi.Resource) -> Output[str]:
    found = aws.eks.get_addon_version_output(
        addon_name=addon, kubernetes_version=cluster.version, most_recent=True, opts=InvokeOptions(parent=parent)
    )
    return found.version


def _issuer(identities: Any) -> str:
    """The URL of the cluster's OpenID Connect issuer; empty where the cluster has none."""
    oidcs = identities[0].oidcs if identities else None
    return (oidcs[0].issuer if oidcs else "") or ""
