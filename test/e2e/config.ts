/** The bridge of test/e2e/inside.sh: what pods reach the node by. */
export const NODE_ADDRESS = "10.98.0.1";
const PODS = "10.98.0.0/24";

/** What a node's parts are told. */
export interface NodeLayout {
  readonly name: string;
  /** A directory on a disk. */
  readonly dir: string;
  /** Directory of the tier's programs. */
  readonly bin: string;
  readonly cgroup: string;
  /** Whose clients may ask the kubelet. */
  readonly clientCa: string;
}

/** Where its daemons listen; unix socket addresses end at 107 bytes. */
export const CONTAINERD_SOCKET = "/run/containerd/containerd.sock";
const PAUSE_IMAGE = "localhost/pause:test";
/** As test/image/build.sh names it. */
export const IMAGE = "localhost/thinstream:test";

/** containerd's, of version 1.6. */
export function containerdConfig({ dir, bin }: NodeLayout): string {
  return `version = 2
root = "${dir}/containerd"
state = "/run/containerd"
[grpc]
  address = "${CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "${dir}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${PAUSE_IMAGE}"
  # Where CAP_SYS_RESOURCE is missing, a smaller value than its own cannot be given.
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "${bin}/runc"
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${dir}/cni"
`;
}

/** Pods on the node's bridge, with addresses of their own. */
export const networkConfig: object = {
  cniVersion: "0.4.0",
  name: "pods",
  plugins: [
    {
      type: "bridge",
      bridge: "cni0",
      isGateway: true,
      hairpinMode: true,
      ipam: {
        type: "host-local",
        dataDir: "/run/cni",
        ranges: [[{ subnet: PODS, gateway: NODE_ADDRESS }]],
        routes: [{ dst: "0.0.0.0/0" }],
      },
    },
  ],
};

/** The kubelet's, for a machine that shall stay as it is. */
export function kubeletConfig({ dir, cgroup, clientCa }: NodeLayout): object {
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    address: NODE_ADDRESS,
    authentication: { anonymous: { enabled: false }, webhook: { enabled: false }, x509: { clientCAFile: clientCa } },
    authorization: { mode: "AlwaysAllow" },
    containerRuntimeEndpoint: `unix://${CONTAINERD_SOCKET}`,
    // Nobody answers there; names are not looked up in these tests.
    clusterDNS: ["10.96.0.10"],
    volumePluginDir: `${dir}/plugins`,
    resolvConf: `${dir}/resolv.conf`,
    cgroupDriver: "cgroupfs",
    cgroupRoot: cgroup,
    failCgroupV1: false,
    failSwapOn: false,
    oomScoreAdj: 0,
    makeIPTablesUtilChains: false,
    // A full disk of the machine is not this node's concern.
    evictionHard: { "memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%" },
    imageGCHighThresholdPercent: 100,
    // The controller manager of test/cluster takes a node for lost after ten seconds.
    nodeLeaseDurationSeconds: 8,
    nodeStatusUpdateFrequency: "5s",
  };
}
