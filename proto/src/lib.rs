//! The wire: CSI and Strongroom's own control services.
