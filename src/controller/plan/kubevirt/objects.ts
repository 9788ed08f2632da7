/**
 * The parts of the API's objects that plans read, all as optional as an API server sends them. Any client's objects satisfy them.
 */
export interface Metadata {
  readonly name?: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly creationTimestamp?: string | Date;
  readonly deletionTimestamp?: string | Date;
  readonly ownerReferences?: readonly {
    readonly kind: string;
    readonly name: string;
    readonly uid: string;
    readonly controller?: boolean;
  }[];
}

export interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
}

export interface VmDisk {
  readonly name: string;
  readonly disk?: object;
  readonly lun?: object;
  readonly cdrom?: object;
  readonly shareable?: boolean;
}

interface Named {
  readonly name?: string;
}

export interface CloudInit {
  readonly secretRef?: Named;
  readonly networkDataSecretRef?: Named;
}

/** One source is set; those of no interest here are of any shape. */
export interface VmVolume {
  readonly name: string;
  readonly persistentVolumeClaim?: { readonly claimName: string; readonly hotpluggable?: boolean; readonly readOnly?: boolean };
  readonly dataVolume?: { readonly name: string; readonly hotpluggable?: boolean };
  readonly ephemeral?: { readonly persistentVolumeClaim?: { readonly claimName: string } };
  readonly hostDisk?: object;
  readonly containerDisk?: { readonly imagePullSecret?: string };
  readonly emptyDisk?: object;
  readonly memoryDump?: { readonly claimName?: string };
  readonly cloudInitNoCloud?: CloudInit;
  readonly cloudInitConfigDrive?: CloudInit;
  readonly sysprep?: { readonly secret?: Named; readonly configMap?: Named };
  readonly configMap?: Named;
  readonly secret?: { readonly secretName?: string };
  readonly serviceAccount?: { readonly serviceAccountName?: string };
  readonly downwardAPI?: object;
  readonly downwardMetrics?: object;
}

export interface VmInterface {
  readonly name: string;
  readonly macAddress?: string;
}

/** `spec.template.spec` of a VirtualMachine, and `spec` of its VirtualMachineInstance. */
export interface InstanceSpec {
  readonly domain?: {
    readonly devices?: {
      readonly disks?: readonly VmDisk[];
      readonly filesystems?: readonly { readonly name: string }[];
      readonly interfaces?: readonly VmInterface[];
      readonly tpm?: { readonly persistent?: boolean };
    };
    readonly firmware?: {
      readonly uuid?: string;
      readonly serial?: string;
      readonly bootloader?: { readonly efi?: { readonly persistent?: boolean } };
      readonly kernelBoot?: { readonly container?: { readonly imagePullSecret?: string } };
    };
  };
  readonly volumes?: readonly VmVolume[];
  readonly networks?: readonly { readonly name: string; readonly multus?: { readonly networkName: string } }[];
  readonly accessCredentials?: readonly {
    readonly sshPublicKey?: { readonly source?: { readonly secret?: { readonly secretName?: string } } };
    readonly userPassword?: { readonly source?: { readonly secret?: { readonly secretName?: string } } };
  }[];
}

interface Flavor {
  readonly kind?: string;
  readonly name?: string;
  readonly revisionName?: string;
}

export interface VirtualMachine {
  readonly metadata: Metadata;
  readonly spec?: {
    readonly runStrategy?: string;
    readonly running?: boolean;
    readonly template?: { readonly spec?: InstanceSpec };
    readonly instancetype?: Flavor;
    readonly preference?: Flavor;
    readonly dataVolumeTemplates?: readonly { readonly metadata: Metadata }[];
  };
  readonly status?: {
    readonly printableStatus?: string;
    readonly snapshotInProgress?: string;
    readonly restoreInProgress?: string;
    readonly stateChangeRequests?: readonly { readonly action: string }[];
    readonly instancetypeRef?: { readonly controllerRevisionRef?: Named };
    readonly preferenceRef?: { readonly controllerRevisionRef?: Named };
  };
}

export interface VirtualMachineInstance {
  readonly metadata: Metadata;
  readonly spec?: InstanceSpec;
  readonly status?: {
    readonly phase?: string;
    readonly nodeName?: string;
    readonly evacuationNodeName?: string;
    readonly runtimeUser?: number;
    readonly fsFreezeStatus?: string;
    readonly migrationState?: {
      readonly startTimestamp?: string | Date;
      readonly completed?: boolean;
      readonly failed?: boolean;
      readonly targetNode?: string;
    };
    readonly conditions?: readonly Condition[];
    readonly changedBlockTracking?: {
      readonly state?: string;
      readonly backupStatus?: { readonly backupName?: string; readonly completed?: boolean };
    };
    readonly interfaces?: readonly { readonly name?: string; readonly mac?: string }[];
    readonly volumeStatus?: readonly {
      readonly name: string;
      readonly hotplugVolume?: object;
      readonly persistentVolumeClaimInfo?: { readonly claimName?: string; readonly filesystemOverhead?: string };
    }[];
  };
}

export interface Migration {
  readonly metadata: Metadata;
  readonly spec?: { readonly vmiName?: string };
  readonly status?: { readonly phase?: string };
}

/** A VirtualMachineBackup or its tracker, of backup.kubevirt.io. */
export interface KubevirtBackup {
  readonly metadata: Metadata;
  readonly spec?: { readonly source?: { readonly apiGroup?: string; readonly kind?: string; readonly name?: string } };
  readonly status?: { readonly conditions?: readonly Condition[] };
}

export interface LauncherPod {
  readonly metadata: Metadata;
  readonly spec?: {
    readonly nodeName?: string;
    readonly volumes?: readonly {
      readonly name: string;
      readonly persistentVolumeClaim?: { readonly claimName: string; readonly readOnly?: boolean };
    }[];
  };
  readonly status?: {
    readonly phase?: string;
    readonly containerStatuses?: readonly { readonly name: string; readonly ready?: boolean }[];
  };
}

export interface Claim {
  readonly metadata: Metadata;
  readonly spec?: {
    readonly volumeName?: string;
    readonly volumeMode?: string;
    readonly accessModes?: readonly string[];
    readonly storageClassName?: string;
    readonly resources?: { readonly requests?: Readonly<Record<string, string>> };
  };
  readonly status?: { readonly phase?: string; readonly capacity?: Readonly<Record<string, string>> };
}

/** A PersistentVolume: of its source only which it is, and where. */
export interface Volume {
  readonly metadata: Metadata;
  readonly spec?: Readonly<Record<string, unknown>> & { readonly hostPath?: { readonly path: string } };
}
