package submission

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/peerpost/peerpost/internal/mail"
)

func TestRefusal(t *testing.T) {
	for _, c := range []struct {
		at   stage
		err  error
		want string
		told bool
	}{
		{atMail, errors.New("x"), "451 4.3.0 This node has trouble at the moment, try again later", false},
		{atRcpt, &mail.Error{Public: "No"}, "550 5.0.0 No", true},
		{atData, &mail.Error{Public: "No"}, "554 5.0.0 No", true},
		{atData, &mail.Error{Temporary: true, Code: [3]int{5, 1, 1}, Public: "Later"}, "451 4.0.0 Later", true},
		{atRcpt, &mail.Error{Code: [3]int{5, 1, 3}, Public: "Typing error"}, "553 5.1.3 Typing error", true},
		{atRcpt, &mail.Error{Code: [3]int{5, -1, 3}, Public: "Odd"}, "550 5.0.0 Odd", true},
		{atData, &mail.Error{Code: [3]int{5, 3, 4}, Public: "Large"}, "552 5.3.4 Large", true},
		{atData, &mail.Error{Public: " a\r\n250 ok\x00ä "}, "554 5.0.0 a  250 ok??", true},
		{atData, &mail.Error{Public: "\n"}, "554 5.0.0 Refused", true},
		{atData, &mail.Error{Public: strings.Repeat("a", 1000)}, "554 5.0.0 " + strings.Repeat("a", maxSentence), true},
	} {
		a, told := refusal(c.at, c.err)
		got := fmt.Sprintf("%d %d.%d.%d %s", a.Code, a.EnhancedCode[0], a.EnhancedCode[1], a.EnhancedCode[2], a.Message)
		if got != c.want || told != c.told {
			t.Errorf("%v: %q, %v; want %q, %v", c.err, got, told, c.want, c.told)
		}
	}
}
