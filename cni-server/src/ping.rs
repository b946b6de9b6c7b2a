//! Asks an address by ICMP whether it answers through a device.

use std::net::IpAddr;

use tokio::process::Command;

/// A usual payload in bytes.
pub const SMALL: u32 = 56;

/// Sends packets with this payload in bytes, which may not be fragmented, until one is answered, for 2 s at most. Returns
/// whether one was. An error says why `ping` could not run.
pub async fn answers(device: &str, address: IpAddr, payload: u32) -> Result<bool, String> {
    let mut command = Command::new("ping");
    // With a deadline, it sends until so many packets are answered. One lost packet is no fault.
    command.args(["-n", "-q", "-c", "1", "-i", "0.2", "-w", "2", "-M", "do"]);
    command.arg("-s").arg(payload.to_string()).arg("-I").arg(device).arg(address.to_string()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| format!("run ping: {error}"))?;
    // ping(8): 1 if no packet was answered, 2 on other errors.
    match output.status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(format!("run ping: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())),
    }
}
