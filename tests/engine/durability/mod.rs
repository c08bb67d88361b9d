//! What is left after kills, damage, full disks, backups and years.

mod backup;
mod corrupt;
mod crash;
mod format;
mod full_disk;
mod fuzz_corpus;
mod repair;
mod replica;
mod restore;
