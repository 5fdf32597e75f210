//! A driver whose pool is gone says that it is unhealthy, and does not end.

use strongroom_proto::csi::ProbeRequest;
use tonic::Code;

use super::Findings;
use crate::kernel;
use crate::machine::Machine;

pub(super) fn provoke(mut machine: Machine, findings: &mut Findings) {
    let pool = machine.text("pool");
    kernel::sh("umount", &["--lazy", &pool]);
    std::fs::remove_dir(&pool).unwrap();
    findings.refused(&machine, Code::FailedPrecondition, "the pool is gone", ProbeRequest {});
    assert!(machine.is_alive());
}
