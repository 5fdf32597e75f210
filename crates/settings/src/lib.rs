//! From a person's words to settings.
//!
//! What a person writes (the configuration file, flags, a moment like "today 14:03:20") is parsed here, once, into
//! plain data that is right by its type: below this crate nobody sees a duration as text or a key that does not exist.
//! The only things done with it are those that every program needs: finding the repository that is meant, opening it,
//! finding the recovery point that is meant, and handing in the world.

mod config;
mod database;
mod day;
mod duration;
mod load;
mod moment;
mod open;
mod repository;
mod restore_test;
mod select;
mod selection;
mod selector;
mod share;
mod size;
mod world;

pub use config::{
    AgentConfig, CheckConfig, Config, CopyConfig, DriverConfig, Located, PolicyConfig, RepositoryConfig,
    RetainConfig, TimeZoneName,
};
pub use database::{
    DatabaseConfig, EngineConfig, MariadbConfig, PostgresConfig, PostgresLog, RedisConfig, SqliteConfig,
};
pub use day::{DayTime, LimitConfig, Rate, WindowConfig};
pub use duration::{DurationError, Interval};
pub use load::ConfigError;
pub use moment::{Moment, MomentError};
pub use open::{
    OpenRepositoryError, OpenedRepository, open_repository, open_repository_to_read, open_repository_with,
    open_store,
};
pub use repository::{RepositoryArgs, RepositorySettings, ResolveError, hand_state_dir};
pub use restore_test::RestoreTestConfig;
pub use select::{Candidate, Choice, SelectError, next_after, select};
pub use selection::Selection;
pub use selector::{Selector, SelectorError};
pub use share::{Share, ShareError};
pub use size::{Size, SizeError};
pub use world::{machine_name, system_world};
