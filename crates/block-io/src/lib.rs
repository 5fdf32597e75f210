//! Reading and writing the bytes of a volume: files and block devices, sparse and changed ranges.
