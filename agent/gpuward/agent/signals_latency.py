"""Signals of how fast inference is, and of what it waits for; rows of ``SIGNALS``.

Of a replica: what its engine's page says, every engine's in the same words (the tables of names are
in ``engine_names``), what an own request to it met, and what is worked out of both.  A duration
that an engine counts is two counters, the sum and how many it is of, so that any window's mean can
be had of them.  What a page does not tell is absent, never 0.
"""

from __future__ import annotations

STALE_S = 15.0
PROBE_STALE_S = 90.0
SLOW_STALE_S = 180.0

REPLICA = (
    ("replica_ready", "1 when the engine says that it is ready, 0 when it does not.", STALE_S),
    (
        "replica_silent_seconds",
        "How long nobody has answered at its address; absent while somebody does.",
        STALE_S,
    ),
    (
        "replica_listens",
        "Of one that is silent: 1 when connections to it are accepted, else 0.",
        STALE_S,
    ),
    ("replica_page_seconds", "How long the engine took to show its page.", STALE_S),
    ("replica_page_failures_total", "Times its page could not be read.", STALE_S),
    ("replica_requests_total", "Requests finished, failed ones included.", STALE_S),
    ("replica_requests_failed_total", "Requests that ended in an error.", STALE_S),
    ("replica_requests_timed_out_total", "Requests that timed out.", STALE_S),
    ("replica_requests_over_objective_total", "Requests slower than the objective.", STALE_S),
    ("replica_objective_budget_ratio", "Share of requests that may be slower.", STALE_S),
    ("replica_requests_waiting", "Requests that wait now.", STALE_S),
    ("replica_requests_running", "Requests that run now.", STALE_S),
    (
        "replica_rank_requests_waiting",
        "Of a server with several ranks: requests that wait at the rank where most do.",
        STALE_S,
    ),
    ("replica_rank_requests_running", "Those that run at that rank.", STALE_S),
    ("replica_requests_limit", "Requests that can run at once.", STALE_S),
    ("replica_kv_cache_usage_ratio", "Share of the KV cache that is in use.", STALE_S),
    ("replica_preemptions_total", "Requests put back to wait for room in the KV cache.", STALE_S),
    ("replica_tokens_total", "Output tokens.", STALE_S),
    ("replica_prompt_tokens_total", "Tokens of prompts.", STALE_S),
    ("replica_prompts_total", "Prompts that those tokens are of.", STALE_S),
    ("replica_cached_prompt_tokens_total", "Tokens of prompts found in the cache.", STALE_S),
    ("replica_latency_seconds_total", "Sum of the latencies of requests, end to end.", STALE_S),
    ("replica_latencies_total", "Requests that this sum is of.", STALE_S),
    ("replica_first_token_seconds_total", "Sum of the times to the first token.", STALE_S),
    ("replica_first_tokens_total", "Requests that this sum is of.", STALE_S),
    ("replica_inter_token_seconds_total", "Sum of the times between tokens.", STALE_S),
    ("replica_inter_tokens_total", "Times between tokens that this sum is of.", STALE_S),
    ("replica_queue_seconds_total", "Sum of the times that requests waited.", STALE_S),
    ("replica_queued_total", "Requests that this sum is of.", STALE_S),
    ("replica_prefill_seconds_total", "Sum of the times that prefills took.", STALE_S),
    ("replica_prefills_total", "Requests that this sum is of.", STALE_S),
    ("replica_decode_seconds_total", "Sum of the times that decoding took.", STALE_S),
    ("replica_decodes_total", "Requests that this sum is of.", STALE_S),
    ("replica_latency_p95_seconds", "95th percentile of five minutes or more.", STALE_S),
    ("replica_first_token_p95_seconds", "The same of the time to the first token.", STALE_S),
    ("replica_inter_token_p95_seconds", "The same of the time between tokens.", STALE_S),
    ("replica_latency_p95_beyond_seconds", "Last edge, when the percentile is above.", STALE_S),
    ("replica_first_token_p95_beyond_seconds", "The same of the time to the first.", STALE_S),
    ("replica_inter_token_p95_beyond_seconds", "The same of the time between tokens.", STALE_S),
    (
        "replica_inter_token_recent_seconds",
        "Mean time between tokens of the last seconds.",
        STALE_S,
    ),
    (
        "replica_inter_token_expected_seconds",
        "What that time was at such a load before; of engines that tell of prompts and KV cache.",
        STALE_S,
    ),
    (
        "replica_inter_token_shift_ratio",
        "Lasting departure of the one from the other; 0.05 is 5 % slower.",
        STALE_S,
    ),
    (
        "replica_inter_token_evidence_ratio",
        "Accumulated evidence that it is slower, by what a finding takes: CUSUM by its limit.",
        STALE_S,
    ),
    (
        "replica_inter_token_shift_age_seconds",
        "Time since that evidence was last nothing: how long it has been so.",
        STALE_S,
    ),
    (
        "replica_objective_burn_ratio",
        "Speed at which the error budget burns in the last minute and in five; 1 lasts.",
        STALE_S,
    ),
    (
        "replica_objective_slow_burn_ratio",
        "The same in the last five minutes and in the last hour.",
        STALE_S,
    ),
    (
        "replica_requests_failed_usual_ratio",
        "Share of requests that usually end in an error, as counted over about a day.",
        STALE_S,
    ),
    (
        "replica_prompt_tokens_usual",
        "Tokens of a prompt, in the median minute of the last hour.",
        SLOW_STALE_S,
    ),
    (
        "replica_arrivals_usual_per_second",
        "Requests that came, in the median minute of the last hour.",
        SLOW_STALE_S,
    ),
    ("replica_cause", "Number of the cause that its verdict names; 0: undetermined.", STALE_S),
    ("endpoint_up", "1 when an own request was answered well, else 0.", SLOW_STALE_S),
    (
        "endpoint_gateway",
        "1 where users reach all replicas through it, 0 where it is one replica.",
        SLOW_STALE_S,
    ),
    ("endpoint_status", "HTTP status of the last answer to an own request.", SLOW_STALE_S),
    ("endpoint_probe_seconds", "How long an own request of one token took.", SLOW_STALE_S),
    ("endpoint_first_token_seconds", "Time to its first token.", SLOW_STALE_S),
    ("endpoint_probes_total", "Own requests sent.", SLOW_STALE_S),
    ("endpoint_probes_failed_total", "Own requests answered by an error.", SLOW_STALE_S),
    ("endpoint_probes_timed_out_total", "Own requests not answered in time.", SLOW_STALE_S),
    (
        "endpoint_probes_unreachable_total",
        "Own requests that nobody listened to.",
        SLOW_STALE_S,
    ),
    (
        "endpoint_canary_agreement_ratio",
        "Share of the golden tokens that the replica still gives.",
        SLOW_STALE_S,
    ),
    (
        "endpoint_canary_usual_ratio",
        "Least share that is usual.",
        SLOW_STALE_S,
    ),
    (
        "endpoint_canary_evidence_ratio",
        "Evidence that it gives others, by what a finding takes.",
        SLOW_STALE_S,
    ),
    ("ingress_requests_total", "Requests that the ingress saw.", STALE_S),
    ("ingress_requests_failed_total", "Of them answered with a status of 500 or more.", STALE_S),
    ("ingress_requests_timed_out_total", "Of them those that timed out.", STALE_S),
    ("ingress_latency_seconds_total", "Sum of their latencies.", STALE_S),
    ("ingress_latencies_total", "Requests that this sum is of.", STALE_S),
)
UPSTREAM = (
    ("upstream_up", "1 when the upstream answered an own request, else 0.", PROBE_STALE_S),
    ("upstream_probe_seconds", "How long an own request to the upstream took.", PROBE_STALE_S),
    (
        "upstream_probe_usual_seconds",
        "What the own requests to it usually take.",
        PROBE_STALE_S,
    ),
    (
        "upstream_latency_usual_seconds",
        "What its callers' requests usually take.",
        PROBE_STALE_S,
    ),
    ("upstream_requests_total", "Requests to the upstream, as its callers count.", STALE_S),
    ("upstream_requests_failed_total", "Of them those that failed.", STALE_S),
    ("upstream_requests_throttled_total", "Of them those refused as too many: 429.", STALE_S),
    ("upstream_latency_seconds_total", "Sum of their latencies.", STALE_S),
    ("upstream_latencies_total", "Requests that this sum is of.", STALE_S),
)
GPU_LATENCY = (
    ("gpu_probe_event_seconds", "Median time of an empty kernel on the GPU.", PROBE_STALE_S),
    ("gpu_probe_event_shortest_seconds", "Shortest time of an empty kernel.", PROBE_STALE_S),
    ("gpu_probe_clock_hertz", "Clock that a kernel really had: cycles by time.", PROBE_STALE_S),
    ("gpu_probe_longest_gap_seconds", "Longest time that a kernel stood still.", PROBE_STALE_S),
    ("gpu_probe_gap_ratio", "Share of its time that a kernel stood still.", PROBE_STALE_S),
    (
        "gpu_probe_host_to_device_bytes_per_second",
        "Speed of a copy from pinned memory to the GPU.",
        SLOW_STALE_S,
    ),
    ("gpu_probe_device_to_host_bytes_per_second", "Speed of a copy back.", SLOW_STALE_S),
    ("gpu_probe_device_copy_bytes_per_second", "Speed of a copy inside the GPU.", SLOW_STALE_S),
    ("gpu_probe_busy_seconds_total", "Time that probes have kept the GPU busy.", PROBE_STALE_S),
    (
        "gpu_probe_suspended",
        "1 while the GPU is not measured because that could hurt, 0 while it is.",
        PROBE_STALE_S,
    ),
    *(
        (f"gpu_probe_{figure}_{suffix}_ratio", help_text.format(what), SLOW_STALE_S)
        for figure, what in (
            ("event", "empty kernels"),
            ("clock", "the clock of kernels"),
            ("host_to_device", "copies to the GPU"),
            ("device_to_host", "copies from the GPU"),
            ("device_copy", "copies inside the GPU"),
        )
        for suffix, help_text in (
            ("shift", "Departure of {} from what was learned; 0.05 is 5 % slower."),
            ("evidence", "Accumulated evidence that {} got slower, by what a finding takes."),
        )
    ),
)
NODE_LATENCY = (
    ("node_coordinator_silence_seconds", "Since the coordinator last took a report.", STALE_S),
    (
        "node_clock_step_seconds",
        "How far the node's clock was set forward in ten minutes; back is below 0.",
        PROBE_STALE_S,
    ),
    ("probe_launch_seconds", "Median round trip of an empty piece of work.", PROBE_STALE_S),
    ("probe_cpu_stolen_ratio", "Share of time that a spinning thread did not run.", PROBE_STALE_S),
    ("probe_cpu_longest_gap_seconds", "Longest time that it did not run.", PROBE_STALE_S),
    ("probe_cpu_copy_bytes_per_second", "Speed of a copy in memory.", PROBE_STALE_S),
    ("probe_cpu_product_seconds", "Time of a product of two matrices on a core.", PROBE_STALE_S),
    ("node_cpu_pressure_ratio", "Share of time in which some task waited for a core.", STALE_S),
    ("node_memory_pressure_ratio", "Share of time in which some task waited for memory.", STALE_S),
    ("node_io_pressure_ratio", "Share of time in which some task waited for a disk.", STALE_S),
)
