//! Nodes of a fleet on a real Valkey cluster.
//!
//! They need a cluster that was started by `examples/fleet/cluster start DIR`, and are told of it by `UNLISTED_FLEET_DIR=DIR`;
//! without it they say so and do nothing. `UNLISTED_CHAOS_SECONDS` has the test that kills servers and nodes run longer than
//! its fifteen seconds; it starts a cluster of its own.

#![cfg(feature = "valkey")]

#[path = "fleet/bad_input.rs"]
mod bad_input;
#[path = "fleet/chaos.rs"]
mod chaos;
#[path = "fleet/clocks.rs"]
mod clocks;
#[path = "fleet/cluster.rs"]
mod cluster;
mod common;
#[path = "fleet/shared.rs"]
mod shared;
#[path = "fleet/trouble.rs"]
mod trouble;
