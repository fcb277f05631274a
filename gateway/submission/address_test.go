package submission

import (
	"errors"
	"testing"
)

func TestCheckAddress(t *testing.T) {
	for _, c := range []struct {
		in   string
		utf8 bool
		want string
		err  error
	}{
		{in: "a@b", want: "a@b"},
		{in: "a.b+c@d-e.f", want: "a.b+c@d-e.f"},
		{in: "a@[127.0.0.1]", want: "a@[127.0.0.1]"},
		{in: "a@[IPv6:::1]", want: "a@[IPv6:::1]"},
		{in: "a b@c", want: `"a b"@c`},
		{in: `a"\b@c`, want: `"a\"\\b"@c`},
		{in: "a..b@c", want: `"a..b"@c`},
		{in: "ä@b", err: errAddressUTF8},
		{in: "ä@b", utf8: true, want: "ä@b"},
		{in: "a@ä.b", utf8: true, want: "a@ä.b"},
		{in: "\xff@b", utf8: true, err: errAddressForm},
		{in: "a@b\u0080", utf8: true, err: errAddressForm},
		{in: "a\tb@c", err: errAddressForm},
		{in: "a", err: errAddressForm},
		{in: "@b", err: errAddressForm},
		{in: "a@", err: errAddressForm},
		{in: "a@b@c", err: errAddressForm},
		{in: "a@b.", err: errAddressForm},
		{in: "a@[]", err: errAddressForm},
		{in: "a@[::1]x", err: errAddressForm},
		{in: "a@b c", err: errAddressForm},
	} {
		got, err := checkAddress(c.in, c.utf8)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q: %q, %v; want %q, %v", c.in, got, err, c.want, c.err)
		}
	}
}
