//go:build race

package dht

// crowd is smaller under the race detector, for the reason told in churn_test.go.
const crowd = 22
