"""An experiment on the built-in corpus that trains in seconds."""

STEPS = 60
# A choice of each part of the Transformer that is not the default.
OTHER_SUBLAYERS = {
    "activation": "silu",
    "feed_forward": "gated",
    "norm": "rms_norm",
    "norm_position": "post",
    "positions": "rotary",
    "transparent_attention": True,
}
CONFIG = {
    "task": {
        "pairs": [
            {"source": "en", "target": "fr", "max_pairs": 900, "baseline": 3.0},
            {"source": "en", "target": "es", "max_pairs": 200, "baseline": 3.0},
            {"source": "en", "target": "gl", "max_pairs": 40, "baseline": 2.0},
        ],
        "data": {
            "corpora": [{"reader": "cldr", "options": {"pairs": 1500}}],
            "vocabulary": {"size": 700},
            "dev_fraction": 0.05,
            "test_fraction": 0.05,
            "dev_pairs": 16,
            "test_pairs": 16,
            "max_length": 64,
            "bucket_lengths": [32, 64],
            "tokens_per_batch": 512,
        },
        "model": {
            "size": "tiny",
            "hidden_dim": 32,
            "num_heads": 2,
            "intermediate_dim": 64,
            "encoder_layers": 1,
            "decoder_layers": 1,
        },
        "decoding": {"max_length": 12, "batch_size": 16},
    },
    "trainer": {
        "train_steps": STEPS,
        "steps_per_loop": 5,
        "checkpoint_interval": 10,
        "schedule": {"name": "inverse_ratio"},
        "optimizer": {"warmup_steps": 20, "learning_rate": 1.0, "ema_momentum": 0.9},
        "evaluation": {"interval": 15, "metric": "neg_log_perplexity", "max_pairs": 8},
        "log_batches": True,
    },
    # XLA would compile for longer than the run lasts.
    "runtime": {"jit_compile": False, "seed": 3},
}
