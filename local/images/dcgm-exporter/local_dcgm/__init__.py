"""Stands for NVIDIA's DCGM exporter on nodes without GPUs, so that dashboards and alerts have something to read.

It takes the exporter's arguments and environment, reads the same list of counters, and serves the same metrics with the
same labels, one series for each GPU that the node says it has. The values are this machine's own: its CPUs' use as the
GPU's, its memory's use as the GPU memory's. Temperatures, power and clocks follow from the use by fixed rules, and no
error ever occurs. Which pod uses a GPU is not told, as the kubelet knows no devices here.
"""
