//! When the certificates of a key end. Those that are issued here are renewed in time; an authority, and a key that somebody
//! puts into files, must be replaced by an operator.

use kit::once::Once;
use time::{Date, Duration, OffsetDateTime};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::held::Keys;

/// The longest time before its end in which a certificate is said to end soon.
const SOON: Duration = Duration::days(30);

/// The time from which a certificate is valid, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Validity {
    from: OffsetDateTime,
    to: OffsetDateTime,
}

impl Validity {
    /// Returns the validity of the first certificate of a PEM.
    fn of(pem: &[u8]) -> Option<Self> {
        let certificate = CertificateDer::from_pem_slice(pem).ok()?;
        let (_, parsed) = X509Certificate::from_der(&certificate).ok()?;
        let validity = parsed.validity();
        Some(Self { from: validity.not_before.to_datetime(), to: validity.not_after.to_datetime() })
    }

    /// Says that the certificate ends soon, or has ended: a quarter of its time is left, or 30 days. Renewal leaves a third.
    fn warning(self, now: OffsetDateTime) -> Option<String> {
        let Self { from, to } = self;
        let (left, end) = (to - now, to.date());
        if left.is_negative() {
            return Some(format!("has ended on {end}"));
        }
        let days = left.whole_days();
        (left < SOON.min((to - from) / 4)).then(|| format!("ends on {end}, in {days} days"))
    }
}

/// When the certificates of a key end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    own: Option<Validity>,
    authority: Option<Validity>,
}

impl Ends {
    /// Reads the certificate of a key, and that of the authority that signs now.
    pub fn of(keys: &Keys) -> Self {
        let read = |path| std::fs::read(path).ok().and_then(|pem| Validity::of(&pem));
        Self { own: read(keys.own()), authority: read(keys.trusted()) }
    }

    /// Returns the dates of the own certificate and of that of the authority, as far as they are there.
    pub fn dates(&self) -> (Option<Date>, Option<Date>) {
        let date = |validity: Option<Validity>| validity.map(|validity| validity.to.date());
        (date(self.own), date(self.authority))
    }

    /// Returns what ends soon or has ended, and what to do. `None` if nothing does.
    pub fn warning(&self) -> Option<String> {
        self.warning_at(OffsetDateTime::now_utc())
    }

    fn warning_at(&self, now: OffsetDateTime) -> Option<String> {
        let warning = |validity: Option<Validity>| validity.and_then(|validity| validity.warning(now));
        let authority = warning(self.authority)
            .map(|when| format!("the certificate of the authority for keys {when}: replace the authority"));
        let own = || {
            let when = warning(self.own)?;
            Some(format!("the certificate of the key {when}, and nobody has renewed it"))
        };
        authority.or_else(own)
    }
}

/// Logs when certificates end soon: once, and again each day.
#[derive(Debug, Default)]
pub struct Teller(Once);

impl Teller {
    /// Looks at the files of a key.
    pub fn look(&mut self, keys: &Keys) {
        match Ends::of(keys).warning() {
            Some(warning) if self.0.is_new(&warning) => {
                tracing::warn!(directory = %keys.directory().display(), "{warning}");
            }
            Some(_) => {}
            None => self.0.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_soon_is_said_with_the_days_that_are_left() {
        let at = |days| OffsetDateTime::UNIX_EPOCH + Duration::days(days);
        let of = |days| Some(Validity { from: at(0), to: at(days) });
        let own = Ends { own: of(90), authority: of(3650) };
        let authority = Ends { own: of(3600), authority: of(3600) };
        for (ends, day, expected) in [
            (own, 60, None),
            (own, 67, None),
            (own, 68, Some("the certificate of the key ends on 1970-04-01, in 22 days, and nobody has renewed it")),
            (own, 91, Some("the certificate of the key has ended on 1970-04-01, and nobody has renewed it")),
            (authority, 3570, None),
            (
                authority,
                3571,
                Some("the certificate of the authority for keys ends on 1979-11-10, in 29 days: replace the authority"),
            ),
        ] {
            assert_eq!(ends.warning_at(at(day)).as_deref(), expected, "day {day}");
        }
        assert_eq!(Ends::default().warning(), None);
    }
}
