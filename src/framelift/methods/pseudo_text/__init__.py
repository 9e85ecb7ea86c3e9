"""The pseudo-text adapter: a frozen ViT's view of the LR frames, given to a UNet as its text."""

from framelift.methods.registry import Method

METHOD = Method(
    name="pseudo-text",
    title="Frozen text-to-video UNet whose text is what a ViT sees in the low-resolution frames",
    settings="framelift.methods.pseudo_text.settings:PseudoTextSettings",
    pipeline="framelift.methods.pseudo_text.pipeline:PseudoTextPipeline",
    stages={
        "vit": "framelift.methods.pseudo_text.train_vit:build",
        "vae": "framelift.methods.pseudo_text.train_vae:build",
        "sft": "framelift.methods.pseudo_text.train_vae:build",
        "unet": "framelift.methods.pseudo_text.train:build",
        "adapter": "framelift.methods.pseudo_text.train:build",
    },
)
