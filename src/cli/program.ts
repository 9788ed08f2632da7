import { Command, Option } from "commander";

import type { AgentFlags } from "./commands/agent.ts";
import type { ApplyCrdsFlags } from "./commands/apply-crds.ts";
import type { ControllerFlags } from "./commands/controller.ts";
import type { CheckFlags } from "./commands/check.ts";
import type { BackupFlags } from "./commands/backup.ts";
import type { CopyFlags } from "./commands/copy.ts";
import type { ForgetFlags } from "./commands/forget.ts";
import type { InitFlags } from "./commands/init.ts";
import type { KeyAddFlags, KeyRemoveFlags } from "./commands/key.ts";
import type { KeyRotateFlags } from "./commands/key-rotate.ts";
import type { LockFlags } from "./commands/lock.ts";
import type { PointFlags } from "./commands/point-hold.ts";
import type { PointsFlags, ShowFlags } from "./commands/points.ts";
import type { PruneFlags } from "./commands/prune.ts";
import type { RestoreFlags } from "./commands/restore.ts";
import type { StoreTestFlags } from "./commands/store-test.ts";
import type { Context, Outcome, RepositoryFlags } from "./context.ts";
import { age, kept, lockPeriod, percent, requests, size, timeZone } from "./flag-values.ts";

type Work<F> = (flags: F, context: Context) => Promise<Outcome>;

/** The work of every command, loaded when it is chosen: most of what one needs the others do not. */
const works = {
  agent: async () => (await import("./commands/agent.ts")).agent,
  applyCrds: async () => (await import("./commands/apply-crds.ts")).applyCrds,
  backup: async () => (await import("./commands/backup.ts")).backup,
  check: async () => (await import("./commands/check.ts")).check,
  controller: async () => (await import("./commands/controller.ts")).controller,
  copy: async () => (await import("./commands/copy.ts")).copy,
  forget: async () => (await import("./commands/forget.ts")).forget,
  hold: async () => (await import("./commands/hold.ts")).hold,
  init: async () => (await import("./commands/init.ts")).init,
  keyAdd: async () => (await import("./commands/key.ts")).keyAdd,
  keyList: async () => (await import("./commands/key.ts")).keyList,
  keyRemove: async () => (await import("./commands/key.ts")).keyRemove,
  keyRotate: async () => (await import("./commands/key-rotate.ts")).keyRotate,
  lock: async () => (await import("./commands/lock.ts")).lock,
  pointHold: async () => (await import("./commands/point-hold.ts")).pointHold,
  pointRelease: async () => (await import("./commands/point-hold.ts")).pointRelease,
  points: async () => (await import("./commands/points.ts")).points,
  prune: async () => (await import("./commands/prune.ts")).prune,
  restore: async () => (await import("./commands/restore.ts")).restore,
  storeTest: async () => (await import("./commands/store-test.ts")).storeTest,
  show: async () => (await import("./commands/points.ts")).show,
};

/** The command line: every command and its flags. `done` takes what the chosen command leaves. */
export function program(context: Context, done: (outcome: Outcome) => void): Command {
  const root = new Command("thinstream");
  root
    .description("Incremental-forever, chainless backup of virtual machines into object storage.")
    .version(context.version)
    .exitOverride()
    // What is wrong with a command line is said by the one who catches it.
    .configureOutput({ outputError: () => undefined });
  const plain = adder(root, context, done);
  const add = withRepositoryFlags(plain);
  add<InitFlags>("init", "make an empty repository", works.init).option("--no-encryption", "store everything in the clear");
  addBackup(add);
  add<PointsFlags>("points", "list the restore points, oldest first", works.points).option("--vm <name>", "only this machine's");
  add<ShowFlags>("show", "show one restore point", works.show).argument("<point>", "its id");
  addRestore(add);
  addCheck(add);
  addForget(add);
  add<PruneFlags>("prune", "remove what no restore point refers to; needs the right to delete", works.prune).option(
    "--dry-run",
    "only say what would be removed",
  );
  addLock(add);
  addCopy(plain);
  plain<StoreTestFlags>("store-test", "try out what a store can and cannot do, and what that means", works.storeTest)
    .argument("<url>", "file:///path or s3://bucket/prefix?endpoint=http://host:port&region=us-east-1")
    .option("--json", "one JSON document on standard output");
  const point = root.command("point").description("say what is to become of single restore points").exitOverride();
  const addToPoint = withRepositoryFlags(adder(point, context, done));
  addToPoint<PointFlags>("hold", "keep them, whatever is forgotten and pruned", works.pointHold).argument("<point...>", "ids");
  addToPoint<PointFlags>("release", "take the hold off again", works.pointRelease).argument("<point...>", "ids");
  addKey(withRepositoryFlags(adder(root.command("key").description("say who can open the repository").exitOverride(), context, done)));
  plain<AgentFlags>("agent", "carry out one work order of the operator (docs/operator.md)", works.agent)
    .requiredOption("--order <file>", "the work order")
    .requiredOption("--digest <digest>", "its SHA-256, as sha256:HEX")
    .option("--termination-log <file>", "where the result goes besides standard output, e.g. /dev/termination-log");
  plain<ControllerFlags>("controller", "watch the custom resources and carry out what they ask for (docs/operator.md)", works.controller)
    .requiredOption("--config <file>", "its configuration, as the chart writes it")
    .option("--kubeconfig <file>", "of the cluster; else KUBECONFIG, the pod's service account, ~/.kube/config");
  plain<ApplyCrdsFlags>("apply-crds", "bring the cluster's custom resource definitions to this version's", works.applyCrds).option(
    "--kubeconfig <file>",
    "of the cluster; else KUBECONFIG, the pod's service account, ~/.kube/config",
  );
  plain<object>("hold", "keep this pod's volumes mounted until SIGTERM", works.hold);
  return root;
}

type Add = <F>(name: string, description: string, work: () => Promise<Work<F>>) => Command;

/** Adds commands below `parent`. */
function adder(parent: Command, context: Context, done: (outcome: Outcome) => void): Add {
  return <F>(name: string, description: string, work: () => Promise<Work<F>>) => {
    const command = parent.command(name).description(description).allowExcessArguments(false).exitOverride();
    return command.action(async (...args: unknown[]) => done(await (await work())(flagsOf(args) as F, context)));
  };
}

/** Adds commands that work on a repository. */
function withRepositoryFlags(plain: Add): Add {
  return (name, description, work) => {
    const command = plain(name, description, work);
    command.requiredOption("--repo <url>", "file:///path or s3://bucket/prefix?endpoint=http://host:port&region=us-east-1");
    command.option("--key-file <file>", "the repository's key, or another that was let in; else THINSTREAM_KEY_FILE");
    command.option("--passphrase-file <file>", "a passphrase that was let in; else THINSTREAM_PASSPHRASE_FILE");
    return command.option("--json", "one JSON document on standard output");
  };
}

function addKey(add: Add): void {
  add<RepositoryFlags>("list", "every way into the repository, and what is wrong with it", works.keyList);
  add<KeyAddFlags>("add", "let another passphrase or key file in", works.keyAdd)
    .option("--new-passphrase-file <file>", "the passphrase, which the file must hold already")
    .option("--new-key-file <file>", "the key file; made where it does not exist")
    .option("--label <text>", "whose it is; lies in the bucket in the clear", "");
  add<KeyRemoveFlags>("remove", "no longer let it in", works.keyRemove)
    .argument("<slot>", "its id, as list shows it")
    .option("--last-way-in", "also when after it only the repository key itself opens the repository");
  add<KeyRotateFlags>("rotate", "put a new repository key in the place of the old one; no data is rewritten", works.keyRotate)
    .option("--new-key-file <file>", "where the new key goes; must not exist")
    .option("--new-passphrase-file <file>", "a passphrase that opens the repository then")
    .option("--end-slots", "the passphrases and key files that were let in end with the old key; without this flag they stop a rotation")
    .option("--finish", "only do what an earlier rotation has left undone");
}

function addCheck(add: Add): void {
  add<CheckFlags>("check", "say what is missing or damaged of all that any restore point needs, and whose it is", works.check)
    .addOption(
      new Option(
        "--level <level>",
        "list: whether everything is there, and as long as it must be; checksum: and whether the store says that it is what was stored; read: everything is read",
      )
        .choices(["list", "checksum", "read"])
        .default("read"),
    )
    .option(
      "--sample <percent>",
      "list everything, and read so many percent of the packs at random; with checksum: compare so many, default 10",
      percent,
    );
}

function addLock(add: Add): void {
  add<LockFlags>("lock", "keep what restore points need under Object Lock; needs the right to change retention", works.lock)
    .requiredOption(
      "--for <age>",
      "lock what is due until so long from now, e.g. 30d; renewed when a third to a half of it is left",
      lockPeriod,
    )
    .addOption(
      new Option("--mode <mode>", "of what has no lock yet; default: as the bucket's own, else governance").choices([
        "governance",
        "compliance",
      ]),
    )
    .addOption(new Option("--requests <n>", "for single objects, at most").argParser(requests).default(100_000))
    .option("--verify", "ask the store for every lock, and believe nothing that earlier runs wrote down")
    .option("--dry-run", "only say what would be extended");
}

function addForget(add: Add): void {
  const command = add<ForgetFlags>("forget", "take restore points off the list: those named, or those that no rule keeps", works.forget)
    .option("--point <id...>", "these, and nothing else")
    .option("--keep-last <n>", "keep the newest points of each machine", kept);
  for (const [rule, stretches] of keepRules) command.option(`--keep-${rule} <n>`, `and the last one of so many ${stretches}`, kept);
  command
    .option("--keep-within <age>", "and all that are younger than this, counted from the machine's newest: 36h, 30d, 2w", age)
    .option("--vm <name...>", "only of these machines; default: of each one in the repository")
    .addOption(new Option("--time-zone <zone>", "where hours to years begin").argParser(timeZone).default("UTC"))
    .option("--dry-run", "only say what would be forgotten, and why the rest stays");
}

const keepRules = [
  ["hourly", "hours"],
  ["daily", "days"],
  ["weekly", "weeks"],
  ["monthly", "months"],
  ["yearly", "years"],
] as const;

function addCopy(add: Add): void {
  const command = add<CopyFlags>("copy", "copy restore points into another repository: those named, or all that it lacks", works.copy)
    .argument("[point...]", "ids")
    .option("--vm <name...>", "all of these machines")
    .option("--all", "all of all machines");
  for (const [side, repository] of [
    ["from", "the repository with the points"],
    ["to", "the repository that gets them, made by init"],
  ] as const) {
    command
      .requiredOption(`--${side} <url>`, repository)
      .option(`--${side}-key-file <file>`, "its key; else THINSTREAM_KEY_FILE; '' for none")
      .option(`--${side}-passphrase-file <file>`, "a passphrase that was let in; else THINSTREAM_PASSPHRASE_FILE")
      .option(`--${side}-profile <name>`, "whose S3 credentials, of the AWS configuration files; else as everywhere");
  }
  command
    .addOption(new Option("--compression <codec>", "of data that is new there").choices(["lz4", "zstd", "none"]).default("lz4"))
    .option("--json", "one JSON document on standard output");
}

function addBackup(add: Add): void {
  add<BackupFlags>("backup", "take a restore point of a machine", works.backup)
    .option("--connect <uri>", "libvirt, e.g. qemu:///system")
    .option("--domain <name>", "libvirt domain")
    .option("--image <[disk=]path...>", "a stopped disk without libvirt: qcow2 or raw file, or block device")
    .addOption(
      new Option("--image-format <format>", "of --image; say raw where a guest you do not trust wrote its first bytes").choices([
        "qcow2",
        "raw",
      ]),
    )
    .option("--vm <name>", "name in the repository; default: the domain's, or the image's file name")
    .addOption(
      new Option("--level <level>", "how much is read").choices(["auto", "full", "incremental", "differential", "copy"]).default("auto"),
    )
    .option("--since <point>", "point that an incremental or differential is taken against; default: the newest")
    .option("--disk <name...>", "only these disks")
    .option("--exclude-disk <name...>", "not these disks")
    .addOption(
      new Option("--quiesce <when>", "freeze the guest's file systems for the instant")
        .choices(["auto", "required", "never"])
        .default("auto"),
    )
    .option("--freeze-mountpoint <path...>", "freeze only these mount points")
    .option("--scratch-dir <dir>", "where QEMU keeps what the guest overwrites meanwhile; default: /var/tmp")
    .addOption(new Option("--compression <codec>", "of new data").choices(["lz4", "zstd", "none"]).default("lz4"))
    .option("--estimate", "only say what would be read")
    .option("--threshold <bytes>", "store nothing when less than this changed", size);
}

function addRestore(add: Add): void {
  add<RestoreFlags>("restore", "write the disks of a restore point out", works.restore)
    .requiredOption("--point <id>", "its id, or latest")
    .option("--vm <name>", "with latest: of this machine")
    .option("--output <dir>", "directory for DISK.FORMAT; made where missing")
    .addOption(new Option("--format <format>", "of the files").choices(["raw", "qcow2"]).default("raw"))
    .option("--disk <name...>", "only these disks")
    .option("--target <disk=path...>", "an existing file or block device to overwrite")
    .option("--force", "restore what is whole of a damaged point; lost ranges become zeros and are listed; exit code 1")
    .option("--define", "define the machine in libvirt, as a copy: new UUID, MACs and paths")
    .option("--connect <uri>", "with --define: libvirt")
    .option("--name <name>", "with --define: the copy's name; default: the machine's with -restored");
}

/** Commander hands over positional arguments, then flags, then the command. A positional becomes the flag of its name. */
function flagsOf(args: readonly unknown[]): unknown {
  const [flags, command] = [args.at(-2) as object, args.at(-1) as Command];
  const positional = command.registeredArguments.map((argument, i) => [argument.name(), args[i]] as const);
  return { ...flags, ...Object.fromEntries(positional) };
}
