# ruff: noqa: E501
"""What LiteLLM says of Google's rates: numbers read on 2026-11-21 from its release 1.109.1, and nothing else of it.

From `litellm/model_prices_and_context_window_backup.json` in its wheel on the package index, the entries `gemini/…` whose
model stands in our book. USD per million tokens, per 1,000 searches and look-ups of places, per second of video.
"""

from __future__ import annotations

LITELLM = {
    "gemini-2.5-flash": {
        "standard": "cached_audio=0.1 cached_text=0.03 input_audio=1 input_text=0.3 output_text=2.5 search=35 maps=25",
        "flex": "cached_audio=0.1 cached_text=0.03 input_audio=0.5 input_text=0.15 output_text=1.25",
        "batch": "cached_audio=0.1 cached_text=0.03 input_audio=0.5 input_text=0.15 output_text=1.25",
        "priority": "cached_audio=0.18 cached_text=0.054 input_audio=1.8 input_text=0.54 output_text=4.5",
    },
    "gemini-2.5-flash-image": {
        "standard": "cached_text=0.03 input_audio=1 input_text=0.3 output_image=30 output_text=2.5 search=35",
        "flex": "input_text=0.15 output_text=1.25",
        "batch": "input_text=0.15 output_text=1.25",
        "priority": "input_text=0.54 output_text=4.5",
    },
    "gemini-2.5-flash-lite": {
        "standard": "cached_audio=0.03 cached_text=0.01 input_audio=0.3 input_text=0.1 output_text=0.4 search=35 maps=25",
        "flex": "cached_audio=0.03 cached_text=0.01 input_audio=0.15 input_text=0.05 output_text=0.2",
        "batch": "cached_audio=0.03 cached_text=0.01 input_audio=0.15 input_text=0.05 output_text=0.2",
        "priority": "cached_audio=0.054 cached_text=0.018 input_audio=0.54 input_text=0.18 output_text=0.72",
    },
    "gemini-2.5-pro": {
        "standard": "cached_text=0.125 input_text=1.25 output_text=10 search=35 maps=25",
        "flex": "cached_text=0.125 input_text=0.625 output_text=5",
        "batch": "cached_text=0.125 input_text=0.625 output_text=5",
        "priority": "cached_text=0.225 input_text=2.25 output_text=18",
        "standard long": "cached_text=0.25 input_text=2.5 output_text=15",
        "batch long": "cached_text=0.25 input_text=1.25 output_text=7.5",
        "priority long": "cached_text=0.45 input_text=4.5 output_text=27",
    },
    "gemini-3-pro-image": {
        "standard": "input_text=2 output_image=120 output_text=12 search=14",
        "flex": "input_text=1 output_text=6",
        "batch": "input_text=1 output_image=60 output_text=6",
        "priority": "input_text=3.6 output_text=21.6",
    },
    "gemini-3-pro-image-preview": {
        "standard": "input_text=2 output_image=120 output_text=12 search=14",
        "flex": "input_text=1 output_text=6",
        "batch": "input_text=1 output_text=6",
        "priority": "input_text=3.6 output_text=21.6",
    },
    "gemini-3.1-flash-image": {
        "standard": "input_text=0.5 output_image=60 output_text=3 search=14",
        "batch": "input_text=0.25 output_image=30 output_text=1.5",
    },
    "gemini-3.1-flash-image-preview": {
        "standard": "input_text=0.5 output_image=60 output_text=3 search=14",
        "batch": "input_text=0.25 output_text=1.5",
    },
    "gemini-3.1-flash-lite": {
        "standard": "cached_audio=0.05 cached_text=0.025 input_audio=0.5 input_text=0.25 output_text=1.5 search=14 maps=14",
        "flex": "cached_audio=0.025 cached_text=0.0125 input_audio=0.25 input_text=0.125 output_text=0.75",
        "batch": "cached_audio=0.025 cached_text=0.0125 input_text=0.125 output_text=0.75 input_audio=0.25",
        "priority": "cached_audio=0.09 cached_text=0.045 input_text=0.45 output_text=2.7 input_audio=0.9",
    },
    "gemini-3.1-flash-lite-image": {
        "standard": "input_text=0.25 output_image=30 output_text=1.5",
        "batch": "input_text=0.125 output_image=15 output_text=0.75",
    },
    "gemini-3.1-flash-lite-preview": {
        "standard": "cached_audio=0.05 cached_text=0.025 input_audio=0.5 input_text=0.25 output_text=1.5 search=14 maps=14",
        "flex": "cached_text=0.0125 input_text=0.125 output_text=0.75",
        "batch": "cached_text=0.0125 input_text=0.125 output_text=0.75 input_audio=0.25",
        "priority": "cached_text=0.045 input_text=0.45 output_text=2.7",
    },
    "gemini-3.1-pro-preview": {
        "standard": "cached_text=0.2 input_text=2 output_text=12 search=14 maps=14",
        "flex": "cached_text=0.2 input_text=1 output_text=6",
        "batch": "input_text=1 output_text=6 cached_text=0.2",
        "priority": "input_text=3.6 output_text=21.6 cached_text=0.36",
        "standard long": "cached_text=0.4 input_text=4 output_text=18",
        "batch long": "cached_text=0.4 input_text=2 output_text=9",
        "priority long": "input_text=7.2 output_text=32.4 cached_text=0.72",
    },
    "gemini-3.5-flash": {
        "standard": "cached_text=0.15 input_audio=1.5 input_text=1.5 output_text=9 search=14 maps=14",
        "flex": "input_text=0.75 output_text=4.5 cached_text=0.08",
        "batch": "cached_text=0.075 input_text=0.75 output_text=4.5",
        "priority": "input_text=2.7 input_audio=2.7 output_text=16.2 cached_text=0.27",
    },
    "gemini-3.5-flash-lite": {
        "standard": "cached_text=0.03 input_text=0.3 output_text=2.5 search=14 maps=14",
        "flex": "cached_text=0.02 input_text=0.15 output_text=1.25",
        "batch": "cached_text=0.02 input_text=0.15 output_text=1.25",
        "priority": "cached_text=0.05 input_text=0.54 output_text=4.5",
    },
    "gemini-3.6-flash": {
        "standard": "cached_text=0.075 input_text=0.75 output_text=3.75 search=14 maps=14",
        "flex": "cached_text=0.0375 input_text=0.375 output_text=1.875",
        "batch": "cached_text=0.0375 input_text=0.375 output_text=1.875",
        "priority": "input_text=1.35 output_text=6.75 cached_text=0.135",
    },
    "gemini-3.7-flash": {
        "standard": "cached_text=0.075 input_text=0.75 output_text=3.75 search=14 maps=14",
        "flex": "cached_text=0.0375 input_text=0.375 output_text=1.875",
        "batch": "cached_text=0.0375 input_text=0.375 output_text=1.875",
        "priority": "input_text=1.35 output_text=6.75 cached_text=0.135",
    },
    "gemini-3.8-flash": {
        "standard": "cached_text=0.075 input_text=0.75 output_text=3.75 search=14 maps=14",
        "flex": "cached_text=0.0375 input_text=0.375 output_text=1.875",
        "batch": "cached_text=0.0375 input_text=0.375 output_text=1.875",
        "priority": "input_text=1.35 output_text=6.75 cached_text=0.135",
    },
    "gemini-3.8-live": {
        "standard": "input_audio=3 input_image=1 input_text=0.75 input_video=1 output_audio=12 output_text=4.5",
    },
    "gemini-4-argon": {
        "standard": "cached_text=0.1 maps=14 input_text=2 output_text=10 search=14",
        "flex": "cached_text=0.05 input_text=1 output_text=5",
        "batch": "cached_text=0.05 input_text=1 output_text=5",
        "priority": "cached_text=0.18 input_text=3.6 output_text=18",
    },
    "gemini-embedding-001": {
        "standard": "input_text=0.15",
        "batch": "input_text=0.075",
    },
    "gemini-embedding-2": {
        "standard": "input_audio=6.5 input_image=0.45 input_text=0.2 input_video=12",
        "batch": "input_audio=3.25 input_image=0.225 input_text=0.1 input_video=6",
    },
    "gemini-embedding-2-preview": {
        "standard": "input_audio=6.5 input_image=0.45 input_text=0.2 input_video=12",
        "batch": "input_audio=3.25 input_image=0.225 input_text=0.1 input_video=6",
    },
    "gemini-flash-latest": {
        "standard": "cached_text=0.075 input_text=0.75 output_text=3.75 search=14 maps=14",
        "flex": "cached_text=0.0375 input_text=0.375 output_text=1.875",
        "batch": "input_text=0.375 output_text=1.875",
        "priority": "cached_text=0.135 input_text=1.35 output_text=6.75",
    },
    "gemini-flash-lite-latest": {
        "standard": "cached_text=0.03 input_text=0.3 output_text=2.5 search=14 maps=14",
        "flex": "cached_text=0.02 input_text=0.15 output_text=1.25",
        "batch": "input_text=0.15 output_text=1.25",
        "priority": "cached_text=0.05 input_text=0.54 output_text=4.5",
    },
    "gemini-nano-banana-2.1": {
        "standard": "input_text=1.5 output_image=30 output_text=7.5 search=14",
        "batch": "input_text=0.75 output_image=15 output_text=3.75",
    },
    "gemini-omni-1.1-flash": {
        "standard": "input_audio=1.5 input_text=1.5 output_text=9 output_video=17.5",
    },
    "gemini-omni-flash-preview": {
        "standard": "input_audio=1.5 input_text=1.5 output_text=9 output_video=17.5",
    },
    "gemini-pro-latest": {
        "standard": "cached_text=0.2 input_text=2 output_text=12 search=14 maps=14",
        "flex": "cached_text=0.2 input_text=1 output_text=6",
        "batch": "input_text=1 output_text=6",
        "priority": "cached_text=0.36 input_text=3.6 output_text=21.6",
        "standard long": "cached_text=0.4 input_text=4 output_text=18",
        "priority long": "cached_text=0.72 input_text=7.2 output_text=32.4",
    },
    "nano-banana-pro-preview": {
        "standard": "input_text=2 output_image=120 output_text=12 search=14",
        "flex": "input_text=1 output_text=6",
        "batch": "input_text=1 output_text=6",
        "priority": "input_text=3.6 output_text=21.6",
    },
    "veo-3.1-fast-generate-001": {
        "standard": "second_720p=0.1 second_1080p=0.12 second_4k=0.3",
    },
    "veo-3.1-fast-generate-preview": {
        "standard": "second_720p=0.1 second_1080p=0.12 second_4k=0.3",
    },
    "veo-3.1-generate-001": {
        "standard": "second_720p=0.4 second_4k=0.6",
    },
    "veo-3.1-generate-preview": {
        "standard": "second_720p=0.4 second_4k=0.6",
    },
    "veo-3.1-lite-generate-preview": {
        "standard": "second_720p=0.05 second_1080p=0.08",
    },
}
"""Model → tier ("standard long": prompts over 200,000 tokens) → rates, as name=USD."""
