"""Weighbridge: a transparent reverse proxy for the Gemini API that writes down exactly what each call cost.

A call comes in at the gateway door, and gateway/relay.py tells its story from first byte to last.

    app         puts the parts together; serve runs them behind two doors
    gateway     the data plane: server (HTTP bounds), intake (bodies), relay (the story), weighing, meter
    control     the control plane: health, metrics, the admin API; rebuild (limits, from the ledger)
    upstreams   pool (selection), attempts, health (who is out); http11 (connections), tls, round_trip (one call)
    limits      reserve and settle: algorithm (pure), memory, redis and its Lua
    billing     ledger (the file), records (a row), prices, estimates, charge (usage → cost), reports (the bill)
    tenants     projects, keys, policy (what a key may do), and keyring: whose key is this?
    store       weighbridge.db: tables, migrations; redis: the way to it
    gemini      what Google's wire looks like, pure: surface (the operations), calls, credentials, headers, bodies,
                scanner (finds usage as bytes pass), usage, edits, status
    telemetry   logs and metrics
    config      the settings: schema, load, reload
    emulator    a stand-in for the Gemini API
    cli         one file a command group
    resources   what the process takes of its machine: file descriptors, the collector's time
    errors      why a call may be refused, and how one may end

Imports run downward only: cli → serve → app → gateway | control | emulator → upstreams | limits | billing | tenants →
store → telemetry → config → gemini → errors | resources. import-linter holds them there.
"""

__version__ = "0.1.0"
