import fc from "fast-check";
import { expect, it } from "vitest";
import { Pile } from "../../src/sys/pile.js";

const pileOf = (places: number[]): Pile<{ place: number; text: string }> => {
  const pile = new Pile<{ place: number; text: string }>();
  for (const place of places) pile.add(place, { place, text: `record ${place}` });
  return pile;
};

it("gives everything back in the order of the places, whatever order it came in, as often as it is asked", () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 5_000 }), { maxLength: 700 }), (places) => {
      const pile = pileOf(places);
      const expected = places.toSorted((a, b) => a - b).map((place) => ({ place, text: `record ${place}` }));
      expect(pile).toHaveLength(places.length);
      expect([...pile]).toEqual(expected);
      expect([...pile]).toEqual(expected);
      expect(JSON.parse(JSON.stringify(pile))).toEqual(expected);
    }),
    { numRuns: 50 },
  );
});

it("has nothing to give while it is empty", () => {
  const pile = new Pile();
  expect([...pile]).toEqual([]);
  expect(pile).toHaveLength(0);
});

it("can be left off in the middle", () => {
  const [first, second] = pileOf([3, 1, 2]);
  expect([first?.place, second?.place]).toEqual([1, 2]);
});
