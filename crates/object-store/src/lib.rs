//! Object stores: S3, a directory, memory; and wrappers that retry, limit, record and fail.
