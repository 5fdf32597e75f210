//! What every command prints and answers: results, talk, progress, errors and exit codes.
