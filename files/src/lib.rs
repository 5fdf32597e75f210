//! Single files out of recovery points: list, find, copy, mount.
//!
//! ```text
//! bucket -> [image]: bytes at offsets, fetched as needed -> [ext4] [xfs]: a tree of files -> list, find, copy
//!                                                        -> FUSE: one file `image` -> loop device -> [mod@mount]
//! ```
//! * [`image`] fetches chunks when they are asked for, and gives out nothing that was not checked.
//! * [`ext4`] and [`xfs`] read filesystems in this process: no rights are needed, nothing is mounted, and an image that
//!   was made to attack a kernel meets a program that can at worst fail (docs/decisions/0010).
//! * Nothing here writes to a repository or an image. What is written, are copies below a directory that a person named.
//!
//! It knows the repository's reader and nothing of volumes, drivers or restores.

pub mod cli;
pub mod copy;
pub mod disk;
pub mod error;
pub mod ext4;
pub mod filesystem;
mod fuse;
pub mod image;
pub mod listing;
pub mod mount;
pub mod names;
pub mod source;
pub mod tree;
pub mod walk;
pub mod xfs;
