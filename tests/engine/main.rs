//! The engine through its public interface. One program for all of it: its tests run side by side, and it is linked once.
//! What needs a process of its own (an allocator, counts of handles and maps, hours) is a program beside this one.

#[path = "../common/mod.rs"]
mod common;

mod budgets;
mod durability;
mod lookup;
mod project;
