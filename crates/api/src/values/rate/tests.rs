//! Rates in Mbit/s, and quantities as Kubernetes reads them.

use proptest::prelude::*;

use super::*;

#[test]
fn rates() {
    let mbit = |text: &str| Rate::parse_mbit(text).unwrap();
    assert_eq!(mbit("10").map(Rate::bits), Some(10_000_000));
    assert_eq!(mbit("0"), None);
    for bad in ["", "-1", "+1", "1.5", "10M", "99999999999999999999", "18446744073710"] {
        assert!(Rate::parse_mbit(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn quantities() {
    for (text, bits) in [
        ("8", 8),
        ("+8", 8),
        (" 10M ", 10_000_000),
        ("500k", 500_000),
        ("1.5G", 1_500_000_000),
        (".5M", 500_000),
        ("5.M", 5_000_000),
        ("2T", 2_000_000_000_000),
        ("3P", 3_000_000_000_000_000),
        ("18E", 18_000_000_000_000_000_000),
        ("1Ki", 1 << 10),
        ("1Mi", 1 << 20),
        ("1Gi", 1 << 30),
        ("1Ti", 1 << 40),
        ("1Pi", 1 << 50),
        ("1Ei", 1 << 60),
        ("0.5Ei", 1 << 59),
        ("1E", 1_000_000_000_000_000_000),
        ("1E6", 1_000_000),
        ("1e6", 1_000_000),
        ("1e+6", 1_000_000),
        ("12e-1", 2),
        ("10m", 1),
        ("1500m", 2),
        ("2000m", 2),
        ("2000001u", 3),
        ("3000000000n", 3),
        ("1n", 1),
        ("0.0000000001", 1),
        ("1e-1000", 1),
        ("1e-99999999999999999999", 1),
        ("1.0123456789M", 1_012_346),
        ("1.000000000000000000000000000000000000000001", 2),
        ("0.00097656250000000000000000000000000Ki", 1),
        ("0.00097656250000000000000000000000001Ki", 2),
        ("000000000000000000000000000000000000000000007", 7),
        ("0.00000000000000000000000000000000000000007e41", 7),
        ("70000000000000000000000000000000000000000e-40", 7),
        ("18446744073709551615", u64::MAX),
        ("18446744073709551616", u64::MAX),
        ("100E", u64::MAX),
        ("16Ei", u64::MAX),
        ("1e1000", u64::MAX),
        ("1e99999999999999999999", u64::MAX),
        ("99999999999999999999999999999999999999999999T", u64::MAX),
    ] {
        assert_eq!(text.parse::<Rate>().map(Rate::bits), Ok(bits), "{text:?}");
    }
    for (text, why) in [
        ("", "not a decimal number"),
        (".", "not a decimal number"),
        ("M", "not a decimal number"),
        (".M", "not a decimal number"),
        ("+-1", "not a decimal number"),
        ("--1", "not a decimal number"),
        ("1.2.3M", "not a decimal number"),
        ("ten", "not a decimal number"),
        ("e6", "not a decimal number"),
        ("1K", "the unit is none of"),
        ("1ki", "the unit is none of"),
        ("10MB", "the unit is none of"),
        ("10 M", "the unit is none of"),
        ("1e", "the unit is none of"),
        ("1e+", "the unit is none of"),
        ("1e+-6", "the unit is none of"),
        ("1e6k", "the unit is none of"),
        ("1e1.5", "the unit is none of"),
        ("1ei", "the unit is none of"),
        ("-1M", "negative"),
        ("-1n", "negative"),
        ("0", "zero"),
        ("-0", "zero"),
        ("0.000Ei", "zero"),
        ("0e9", "zero"),
    ] {
        let error = text.parse::<Rate>().unwrap_err().to_string();
        assert!(error.contains(why) && error.starts_with(&format!("{text:?} is not a bandwidth: ")), "{error}");
    }
}

proptest! {
    #[test]
    fn every_quantity_is_rounded_up(whole: u64, fraction in "[0-9]{0,30}", exponent in 0..12_u32, unit in 0..7_u32) {
        let bits = format!("{whole}.{fraction}e-{exponent}").parse::<Rate>().map_or(0, Rate::bits);
        let scale = 10_u64.pow(exponent);
        let above = fraction.bytes().any(|digit| digit != b'0') || whole % scale != 0;
        prop_assert_eq!(bits, (whole / scale).saturating_add(u64::from(above)));
        let suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][unit as usize];
        let bits = format!("{whole}{suffix}").parse::<Rate>().map_or(0, Rate::bits);
        prop_assert_eq!(bits, whole.saturating_mul(1 << (10 * unit)));
    }
}
