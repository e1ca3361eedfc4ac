"""What a network is: a checkpoint's config goes in, a `DecoderSpec`, its parameters and its `nn.Module` come out."""
