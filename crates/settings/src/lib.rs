//! From a person's words to settings: the configuration file, the repository flags, and opening what they name.
