import type { Machine } from "./machine.ts";
import { stateDirectory } from "./launcher-pod.ts";

const LOCAL = "kubernetes.io~local-volume";

/**
 * A pod on the machine's node that has of the machine what docs/operator.md gives to an agent, under the same paths, and the rights of
 * an agent; it waits for commands.
 */
export async function agentPod(machine: Machine, name: string): Promise<object> {
  const base = `/var/lib/kubelet/pods/${machine.pod.metadata.uid}`;
  const directories = [
    ["libvirt-runtime", "/var/run/libvirt"],
    ["private", "/var/run/kubevirt-private"],
    ["private-libvirt-qemu", stateDirectory],
    ["ephemeral-disks", "/var/run/kubevirt-ephemeral-disks"],
  ] as const;
  const found = directories.map(([volume, mountPath]) => ({
    path: `${base}/volumes/kubernetes.io~empty-dir/${volume}`,
    mountPath,
    type: "Directory",
  }));
  for (const disk of machine.disks) {
    const volume = await disk.volumeName();
    found.push(
      disk.mode === "Block"
        ? { path: `${base}/volumeDevices/${LOCAL}/${volume}`, mountPath: `/dev/${disk.volume}`, type: "BlockDevice" }
        : {
            path: `${base}/volumes/${LOCAL}/${volume}`,
            mountPath: `/var/run/kubevirt-private/vmi-disks/${disk.volume}`,
            type: "Directory",
          },
    );
  }
  const state = await machine.stateVolume();
  if (state !== undefined)
    found.push({ path: `${base}/volumes/${LOCAL}/${state}/cbt`, mountPath: `${stateDirectory}/cbt`, type: "Directory" });
  const mounts = found.map((one, index) => ({ ...one, name: `host-${index}` }));
  const container = {
    name: "agent",
    image: "debian:13",
    command: ["sleep", "infinity"],
    volumeMounts: [...mounts.map((mount) => ({ name: mount.name, mountPath: mount.mountPath })), { name: "tmp", mountPath: "/tmp" }],
    securityContext: {
      runAsUser: 0,
      readOnlyRootFilesystem: true,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"], add: ["DAC_OVERRIDE", "CHOWN"] },
    },
  };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "default" },
    spec: {
      nodeName: machine.node,
      restartPolicy: "Never",
      terminationGracePeriodSeconds: 1,
      automountServiceAccountToken: false,
      containers: [container],
      volumes: [
        ...mounts.map((mount) => ({ name: mount.name, hostPath: { path: mount.path, type: mount.type } })),
        { name: "tmp", emptyDir: {} },
      ],
    },
  };
}
