"""The controller: one background process that plays what AWS and its controllers do around an EKS cluster.

It keeps a node for each desired instance of the EKS node groups in the emulator (`node_groups`), plays the cluster
autoscaler (`autoscaler`), registers ready pods in load balancer target groups (`target_groups`), and stands in for EKS
Pod Identity (`pod_identity`). Each part is a loop of its own that survives the emulator and the API server being away.
"""
