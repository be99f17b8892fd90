"""The kubelet's part: CRI over containerd's socket, and the sequence of calls that makes a pod."""
