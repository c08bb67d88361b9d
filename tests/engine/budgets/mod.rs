//! What callers pay, what is counted of them, and what operators can do about them.

mod budget;
mod operator;
mod presets;
mod signals;
mod spend;
mod tripwire_odds;
mod tripwires;
