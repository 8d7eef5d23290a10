/** The models that --model names; worker/compute/models builds them. */
export const MODELS = ["alexnet", "resnet", "resnet11"] as const;
