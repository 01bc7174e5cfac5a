#!/usr/bin/env bash
# The first process of a node, in namespaces of its own: when it ends, the kernel ends every process of the node.
# The environment gives NAME, ADDRESS, GATEWAY, PREFIX_LENGTH, FOLDER, CONTAINERD, KUBELET and KUBE_PROXY, and LABELS.
set -euo pipefail

mount --make-rshared /  # unshare has made everything private: this is for the pods' mount propagation only
mount -t proc proc /proc
mount -t tmpfs -o mode=0755 tmpfs /run
# Nodes share the disk. Without folders of their own, one kubelet would delete the other's pod logs as garbage.
for pair in log:/var/log cni:/var/lib/cni kubelet:/var/lib/kubelet containerd:/var/lib/containerd; do
  mkdir -p "$FOLDER/${pair%%:*}" "${pair#*:}"
  mount --bind "$FOLDER/${pair%%:*}" "${pair#*:}"
done
# A kubelet sets these for the whole machine. Give it copies to set: a developer's machine shall stay as it is.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
  kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  if [ -e "/proc/sys/$setting" ]; then
    mkdir -p "/run/sysctl/${setting%/*}"
    cat "/proc/sys/$setting" >"/run/sysctl/$setting"
    mount --bind "/run/sysctl/$setting" "/proc/sys/$setting"
  fi
done

hostname "$NAME"
ip link set lo up
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip address add "$ADDRESS/$PREFIX_LENGTH" dev eth0
ip link set eth0 up
ip route add default via "$GATEWAY"
ip -batch "$FOLDER/etc/routes"
echo 1 >/proc/sys/net/ipv4/ip_forward

# As a unit with Restart=always: a part of the node that dies is back after a second.
supervise() {
  local log=$1
  shift
  : >"$log"
  while true; do
    "$@" >>"$log" 2>&1 || true
    sleep 1
  done
}

supervise /var/log/containerd.log "$CONTAINERD" --config "$FOLDER/etc/containerd.toml" &
until [ -S /run/containerd/containerd.sock ]; do sleep 0.05; done
supervise /var/log/kube-proxy.log "$KUBE_PROXY" --config "$FOLDER/etc/kube-proxy.yaml" &
supervise /var/log/kubelet.log "$KUBELET" --config "$FOLDER/etc/kubelet.yaml" \
  --kubeconfig "$FOLDER/etc/kubelet.kubeconfig" --hostname-override "$NAME" --node-ip "$ADDRESS" \
  --root-dir /var/lib/kubelet --node-labels "$LABELS" &
wait
