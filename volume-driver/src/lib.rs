//! The volume driver: volumes, snapshots, changed blocks and node mounts on a reflink pool.
