// Tier `cluster`: the Kubernetes API server and what goes with it, built from the Go modules that test/cluster/go.sum pins.
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { ensurePackages } from "./apt.mjs";
import { CannotDo, cached, has, hashOf, localCache, mortal, root, run } from "./util.mjs";

const source = join(root, "test/cluster");
const pins = ["go.mod", "go.sum"].map((file) => readFileSync(join(source, file), "utf8"));
const PROGRAMS = {
  etcd: "go.etcd.io/etcd/server/v3",
  "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
  "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
  "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
  kubectl: "k8s.io/kubernetes/cmd/kubectl",
  helm: "helm.sh/helm/v4/cmd/helm",
};

/** Gives the directory of the programs. What `KUBEBUILDER_ASSETS` holds is taken from there, and not built. */
export async function ensureCluster() {
  if (!has("openssl")) await ensurePackages("cluster", ["openssl"]); // makes the certificates
  const assets = process.env.KUBEBUILDER_ASSETS;
  const given = (name) => assets !== undefined && assets !== "" && existsSync(join(assets, name));
  const names = Object.keys(PROGRAMS);
  const wanted = names.filter((name) => !given(name));
  const built = await buildPrograms(
    { tier: "cluster", name: "kubernetes", minutes: 10 },
    wanted,
    wanted.map((name) => PROGRAMS[name]),
  );
  const dir = join(localCache, "lab/cluster");
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  for (const name of names) symlinkSync(join(given(name) ? assets : built, name), join(dir, name));
  return dir;
}

/** The kubelet, in a cache entry of its own: only the tier with real nodes needs it. Gives the program. */
export async function buildKubelet(tier) {
  const built = await buildPrograms({ tier, name: "kubelet", minutes: 4 }, ["kubelet"], ["k8s.io/kubernetes/cmd/kubelet"]);
  return join(built, "kubelet");
}

function buildPrograms({ tier, name, minutes }, names, packages) {
  return cached(`${name}-${pinned("k8s.io/kubernetes")}`, hashOf(...pins, linkerFlags(), ...names), async (out) => {
    if (!has("go")) throw new CannotDo("go (1.25 or later) is not on PATH, and Kubernetes is built with it");
    const options = ["-p", "2", "-trimpath", "-ldflags", linkerFlags(), "-o", `${out}/`];
    const build = ["-n", "10", "go", "build", ...options, ...packages];
    const env = { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=readonly" };
    const what = `building ${names.join(", ")} from Go modules (about ${minutes} minutes once)`;
    await run({ tier, what }, ...mortal("nice", build), { cwd: source, env });
    // Go names a program after its package's folder.
    if (names.includes("etcd")) renameSync(join(out, "server"), join(out, "etcd"));
  });
}

/** Without these the API server calls itself v0.0.0-master, and a chart's `kubeVersion` refuses it. */
function linkerFlags() {
  const version = pinned("k8s.io/kubernetes");
  const [major, minor] = version.slice(1).split(".");
  const facts = { gitVersion: version, gitMajor: major, gitMinor: minor, gitTreeState: "clean", gitCommit: "" };
  const places = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];
  const variables = places.flatMap((place) => Object.entries(facts).map(([name, value]) => `-X ${place}.${name}=${value}`));
  return ["-s -w", ...variables, `-X helm.sh/helm/v4/internal/version.version=${pinned("helm.sh/helm/v4")}`].join(" ");
}

function pinned(module) {
  const line = pins[0].split("\n").find((text) => text.startsWith(`\t${module} v`));
  if (line === undefined) throw new Error(`test/cluster/go.mod requires no ${module}`);
  return line.split(" ")[1];
}
